"""The stages of a quantised bundle: those of an export, with a stage for each layer of a decoder in place of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from edge_sdk.bundle.proof import ProbeChange
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.code_digest import quantise_code
from edge_sdk.export.export_recipe import BASE, Order
from edge_sdk.export.exported import Exported
from edge_sdk.export.language_files import FOLDER
from edge_sdk.export.language_stages import REFERENCES, TEXT_STAGE, Inputs, language_stages, reference_stage
from edge_sdk.export.layouts import HEAD
from edge_sdk.export.measure import measure
from edge_sdk.export.quantise.activations.channel_file import write_channels
from edge_sdk.export.quantise.activations.vision_statistics import FILE as VISION
from edge_sdk.export.quantise.evidence import evidence_of, tokens_of, write_evidence
from edge_sdk.export.quantise.methods import Methods
from edge_sdk.export.quantise.plan import QuantisedPlan, part_name, scales_stage
from edge_sdk.export.quantise.probing import measure_together
from edge_sdk.export.quantise.statistics import widths
from edge_sdk.export.quantise.stored_file import StoredFile
from edge_sdk.export.references import SEED, write_measured
from edge_sdk.export.stage_store import OnBytes, Stage
from edge_sdk.files import sha256_of, write_bytes

# ONNX Runtime on a CPU rounds the rows that meet a few-bit matrix to 8 bits, a scale for each block.
TOLERANCE = 0.1


def quantised_stages(order: Order, plan: QuantisedPlan, work: Path) -> list[Stage]:
    """Every stage, the references last; `work` is the folder in which each will have one of its name."""
    settings = quantise_code() | {"quantise": msgspec.to_builtins(plan.quantise)} | _seen(plan)
    keys = {part_name(key): key for key in plan.decoders}
    exact = list(language_stages(order, plan))
    # What stays beside scaled weights is scaled too, by what those weights are.
    scaled = BASE in plan.methods and plan.methods[BASE].scaled
    beside = {"base": next(each.inputs for each in exact if each.name == part_name(BASE))} if scaled else {}
    stages: list[Stage] = []
    for stage in exact:
        if stage.name == "vision" and plan.few_vision:
            file = plan.few_vision.file
            stages.append(Stage("vision", {**stage.inputs, **settings}, file.size_bytes, _writer(file)))
        elif stage.name in keys:
            stages += _decoder_stages(plan, keys[stage.name], {**stage.inputs, **quantise_code()})
        elif stage.name.startswith("lora."):
            stages.append(replace(stage, inputs={**stage.inputs, **settings, **beside}))
        elif stage.name == "graphs":
            stages.append(replace(stage, inputs={**stage.inputs, **settings}))
        else:
            stages.append(stage)
    return [*stages, *_channel_stages(plan), _reference_stage(plan, stages, work)]


def decoder_stages(stages: Sequence[Stage], plan: QuantisedPlan) -> Iterator[Stage]:
    """Those of `stages` that make the decoders' weights."""
    names = {file.location.removesuffix(".weights") for files in plan.files.values() for file in files.files}
    scales = {scales_stage(key, n) for key in plan.decoders for n in range(plan.checkpoint.config.text.layers)}
    return (stage for stage in stages if stage.name in names | scales)


def _channel_stages(plan: QuantisedPlan) -> Iterator[Stage]:
    statistics, decoders = plan.statistics, list(plan.decoders)
    if statistics is None:
        return
    text, vision = plan.checkpoint.config.text, statistics.folder / VISION
    size = 2 * 4 * sum(widths(text).values()) * text.layers * len(decoders)
    size += vision.stat().st_size if vision.is_file() else 0
    inputs = quantise_code() | {"decoders": decoders} | _seen(plan)
    yield Stage("activations", inputs, size, lambda draft, on_bytes: write_channels(statistics, decoders, draft))


def _decoder_stages(plan: QuantisedPlan, key: str, inputs: Inputs) -> Iterator[Stage]:
    """A layer depends on its own formats alone, so that a choice about others leaves it standing."""
    methods, text = plan.methods[key], plan.checkpoint.config.text
    ways = msgspec.to_builtins(plan.quantise)
    how = {key: ways[key] for key in ("rounding", "scaling", "migration")} | _seen(plan)
    of_layer = [inputs | how | _of_layer(plan, f"decoder.layers.{n}.") for n in range(text.layers)]
    if methods.scaled:
        size = 4 * (2 * text.hidden + text.intermediate)
        for layer in range(text.layers):
            yield Stage(scales_stage(key, layer), of_layer[layer], size, _scaler(methods, layer))
    ends = inputs | {"formats": _formats(plan, HEAD)}
    for file, own in zip(plan.files[key].files, [*of_layer, ends], strict=True):
        yield Stage(file.location.removesuffix(".weights"), own, file.size_bytes, _writer(file))


def _of_layer(plan: QuantisedPlan, prefix: str) -> Inputs:
    inputs = {name: kind for name, kind in plan.rounded.items() if name.startswith(prefix)}
    return {"formats": _formats(plan, prefix), "inputs": inputs}


def _formats(plan: QuantisedPlan, prefix: str) -> Inputs:
    return {name: msgspec.to_builtins(form) for name, form in plan.formats.items() if name.startswith(prefix)}


def _seen(plan: QuantisedPlan) -> Inputs:
    return {"statistics": plan.statistics.identity()} if plan.statistics else {}


# Functions of their own: each stage keeps the layer and the file that it was made with.
def _scaler(methods: Methods, layer: int) -> Callable[[Path, OnBytes], None]:
    return lambda draft, on_bytes: methods.write_scales(layer, draft)


def _writer(file: StoredFile) -> Callable[[Path, OnBytes], None]:
    def make(draft: Path, on_bytes: OnBytes) -> None:
        (draft / FOLDER).mkdir()
        file.write(draft / FOLDER, on_bytes)

    return make


def _reference_stage(plan: QuantisedPlan, stages: Sequence[Stage], work: Path) -> Stage:
    """References by the weights as they are stored, whatever rounding has cost; and what it has cost."""

    def make(draft: Path, on_bytes: OnBytes) -> None:
        def on_progress(begin: float, done: int, total: int, what: str) -> None:
            on_bytes(int(effort * (begin + done / total / 2)))

        models = {key: plan.restored(key, folders_of(plan, key, work)) for key in plan.decoders}
        place, graphs, language = work / TEXT_STAGE, plan.entries(), plan.component()
        tuned = {key: model for key, model in models.items() if key != BASE}
        exported = Exported(place, graphs, language, plan.adapters, tuned)
        base = plan.with_vision(models.get(BASE, plan.checkpoint), {"vision.weights": work / "vision" / FOLDER})
        found = measure(base, exported, SEED, partial(on_progress, 0.0))
        references = write_measured(found, exported, draft, TOLERANCE)
        write_bytes(draft / REFERENCES, msgspec.json.encode(references))
        plain = Exported(place, graphs, language, plan.unfolded)
        exact = measure(plan.checkpoint, plain, SEED, partial(on_progress, 0.5), tokens_of(found.answers))
        evidence = evidence_of(plan.matrix_errors(models), found, exact)
        write_evidence(
            draft,
            msgspec.structs.replace(
                evidence,
                probes=dict(_probe_changes(plan, models, work)),
                sensitivity=plan.sensitivity,
                choice=plan.choice,
                files=dict(_hashes(plan, work)),
            ),
        )

    plain = reference_stage(plan, stages, work / TEXT_STAGE)
    effort, led = 2 * plain.effort, msgspec.to_builtins({"sensitivity": plan.sensitivity, "choice": plan.choice})
    return replace(plain, make=make, effort_bytes=effort, inputs={**plain.inputs, **led, **_seen(plan)})


def _probe_changes(plan: QuantisedPlan, models: Mapping[str, Weights], work: Path) -> Iterator[tuple[str, ProbeChange]]:
    if plan.statistics is None or not plan.statistics.index.probes:
        return
    index = plan.statistics.index
    for key in plan.decoders:
        change = measure_together(plan.methods[key].weights, models[key], plan.probes(key), work / f"measured.{key}")
        yield key, ProbeChange(clips=len(index.probes), held_out=index.held_out, change=change)


def _hashes(plan: QuantisedPlan, work: Path) -> Iterator[tuple[str, str]]:
    """SHA-256 of the decoders' weights, by their paths in the bundle."""
    for key in plan.decoders:
        for location, folder in sorted(folders_of(plan, key, work).items()):
            yield f"{FOLDER}/{location}", sha256_of(folder / location)


def folders_of(plan: QuantisedPlan, key: str, work: Path) -> dict[str, Path]:
    """Where the weight files of the decoder `key` lie among the stages in `work`, by their locations."""
    return {file.location: work / file.location.removesuffix(".weights") / FOLDER for file in plan.files[key].files}
