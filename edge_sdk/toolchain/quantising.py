"""`edge-sdk quantise` for a checkpoint: write a quantised bundle; `export/quantise` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_sdk.hardware import find_target
from edge_sdk.hardware.precision import require_precisions
from edge_sdk.registry import open_room
from edge_sdk.toolchain.calibrating import choose_clips
from edge_sdk.toolchain.exporting import ExportReport, work_folder


def quantise_bundle(
    checkpoint: Path,
    out: Path,
    recipe: str,
    *,
    export: str | None = None,
    statistics: Path | None = None,
    clips: Path | None = None,
    max_kl: float | None = None,
    budget_mb: float | None = None,
    sensitivity: bool = False,
    target: str | None = None,
    device: str = "auto",
    adapters: tuple[str, ...] = (),
    merge: tuple[str, ...] = (),
    work: Path | None = None,
    student: Path | None = None,
    keep: bool = False,
    quiet: bool = False,
    # Any: fields of the export room's recipe, which judges them.
    **changes: Any,
) -> ExportReport:
    """Export the checkpoint in the folder `checkpoint` to the bundle `out`, quantised.

    `recipe` is the name of a quantisation recipe or its TOML file. `export` is that of the export recipe, by default
    the one that `recipe` names. `statistics` is the folder of a calibration, for recipes that need one. `clips` is a
    folder of clips for recipes that train LoRA inputs beside the rounded weights, on the exact model's answers.
    `sensitivity` measures the cost of each layer alone on the calibration's probes. `max_kl`, in nats per token on
    those probes, and `budget_mb`, in 10^6 bytes of the decoders' files, are limits: they also measure the cost and
    choose which matrices stay in 8 or 16 bits. `target` is the machine that the bundle is for, by default that of the
    export recipe; a recipe that it does not support is refused. GPTQ, AWQ, probes and training are computed on
    `device`, see `export.device`. The other parameters are as for `exporting.export_bundle`.

    Raises `ConfigError` for settings or statistics that do not fit the model, missing LoRA inputs or clips for
    training, limits that nothing meets, a full disk, a `work` inside `out`, or if `out` exists; `SourceError` for a
    clip that cannot be read; `UnknownNameError` for `target`; `MissingDependencyError` for `device`; `CheckpointError`
    for weights that are incomplete or do not fit; `BundleError` for `student`.
    """
    found = open_room("export.quantise.recipe").load_quantise_recipe(recipe)
    where = open_room("export.device").find_device(device)
    order = open_room("export.export_recipe").settle(
        checkpoint, adapters=adapters, merge=merge, recipe=export or found.export, **changes
    )
    place = target or order.recipe.target
    if place is not None:
        require_precisions(find_target(place), found.precisions, found.name or recipe)
    work = work_folder(out, work)
    limited = max_kl is not None or budget_mb is not None
    limits = open_room("export.quantise.choosing").Limits(max_kl=max_kl, budget_mb=budget_mb) if limited else None
    pipeline = open_room("export.quantise.pipeline")
    pipeline.check_clips(found, given=clips is not None)
    seen = choose_clips(clips, found.recover.clips) if clips else []
    report: ExportReport = pipeline.run_quantise(
        order,
        found,
        out,
        statistics=statistics,
        limits=limits,
        sensitivity=sensitivity,
        clips=seen,
        device=where,
        work=work,
        student=student,
        keep=keep,
        quiet=quiet,
    )
    return report
