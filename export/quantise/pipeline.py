"""Export a checkpoint to a quantised bundle, whose decoder is rounded layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch

from edge_sdk.bundle.student_part import student_part
from edge_sdk.console import warn
from edge_sdk.errors import ConfigError
from edge_sdk.export.device import CPU
from edge_sdk.export.export_recipe import Order
from edge_sdk.export.pipeline import Prepared, open_plan, run_export
from edge_sdk.export.quantise.choosing import Found, Limits, check, find
from edge_sdk.export.quantise.plan import QuantisedPlan
from edge_sdk.export.quantise.recipe import QuantiseRecipe
from edge_sdk.export.quantise.recovery.recovered import RecoveredLora
from edge_sdk.export.quantise.recovery.run import check_recovery, recover
from edge_sdk.export.quantise.stages import quantised_stages
from edge_sdk.export.quantise.statistics import Clip, Statistics
from edge_sdk.export.stage_store import Stage, StageStore
from edge_sdk.toolchain.exporting import ExportReport, work_folder


def run_quantise(
    order: Order,
    recipe: QuantiseRecipe,
    out: Path,
    *,
    statistics: Path | None = None,
    limits: Limits | None = None,
    sensitivity: bool = False,
    clips: Sequence[tuple[Path, Clip]] = (),
    device: torch.device = CPU,
    work: Path | None = None,
    student: Path | None = None,
    keep: bool = False,
    quiet: bool = False,
) -> ExportReport:
    """Export `order` to the bundle `out` with the decoder as `recipe` says; see `edge_sdk.toolchain.quantising`."""
    _check_calibration(recipe, statistics)
    check_clips(recipe, given=bool(clips))
    place = work_folder(out, work)
    if student:
        student_part(student)  # refuse a bad bundle before hours of work; it is read again when the bundle is written
    seen = Statistics(statistics) if statistics else None
    if seen and not seen.index.identity.known:
        warn([f"{seen.folder} does not name its weights: whether it belongs to this checkpoint is not checked"])
    found, recovered = Found(recipe, (), None), dict[str, RecoveredLora]()
    make_plan = partial(_staged, order, place, seen, device)
    if recipe.recover:
        check_recovery(make_plan(recipe)[0], clips)
    if limits or sensitivity:
        check(make_plan(recipe)[0], limits)  # before anything is written
        with StageStore.locked(place) as store:
            found = find(make_plan, recipe, store, limits, quiet)
    if recipe.recover:
        with StageStore.locked(place) as store:
            recovered = recover(*make_plan(found.recipe), clips, store, quiet)
    told = tuple(clip for _, clip in clips)
    prepare = partial(_prepare, found=found, recovered=recovered, clips=told, statistics=seen, device=device)
    return run_export(order, out, work=place, student=student, keep=keep, quiet=quiet, prepare=prepare)


def _check_calibration(recipe: QuantiseRecipe, statistics: Path | None) -> None:
    if recipe.calibrated and statistics is None:
        raise ConfigError(
            "AWQ, GPTQ, smoothing and 8-bit activations need statistics of activations; run edge-sdk calibrate and "
            "give its folder with --statistics, or take a recipe such as w4 or w8 that needs none"
        )


def check_clips(recipe: QuantiseRecipe, *, given: bool) -> None:
    """Raise `ConfigError` unless clips are given exactly if `recipe` trains on them."""
    if recipe.recover and not given:
        raise ConfigError(
            "this recipe trains LoRA inputs on answers about clips; give a folder of clips with --clips, or take a "
            "recipe without [recover]"
        )
    if given and not recipe.recover:
        raise ConfigError(
            "--clips are for recipes that train LoRA inputs ([recover], such as w4-gptq-recovered); statistics of "
            "activations come from edge-sdk calibrate, by --statistics"
        )


def _plan(
    order: Order, work: Path, recipe: QuantiseRecipe, statistics: Statistics | None, **found: Any
) -> QuantisedPlan:
    return open_plan(order, partial(QuantisedPlan, recipe=recipe, work=work, statistics=statistics, **found))


def _staged(
    order: Order, work: Path, statistics: Statistics | None, device: torch.device, recipe: QuantiseRecipe
) -> tuple[QuantisedPlan, list[Stage]]:
    plan = _plan(order, work, recipe, statistics, device=device)
    return plan, quantised_stages(order, plan, work)


def _prepare(
    order: Order,
    work: Path,
    *,
    found: Found,
    recovered: Mapping[str, RecoveredLora],
    clips: Sequence[Clip],
    statistics: Statistics | None,
    device: torch.device,
) -> Prepared:
    led = {"sensitivity": found.sensitivity, "choice": found.choice, "recovered": recovered}
    plan = _plan(order, work, found.recipe, statistics, device=device, **led)
    provenance = {"quantise": msgspec.to_builtins(found.recipe)}
    if statistics:
        provenance["calibration"] = msgspec.to_builtins(statistics.index)
    if clips:
        provenance["recovery"] = {"clips": msgspec.to_builtins(clips)}
    return Prepared(plan, quantised_stages(order, plan, work), provenance)
