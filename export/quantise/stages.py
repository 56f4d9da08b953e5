"""The stages of a quantised bundle: those of an export, with one stage per decoder layer instead of per decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from edge_sdk.bundle.proof import VISION, ProbeChange, TowerError
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.code_digest import quantise_code
from edge_sdk.export.device import CPU, device_name
from edge_sdk.export.export_recipe import BASE, Order
from edge_sdk.export.exported import Exported
from edge_sdk.export.language_files import FOLDER
from edge_sdk.export.language_plan import lora_file
from edge_sdk.export.language_stages import REFERENCES, TEXT_STAGE, Inputs, language_stages, reference_stage
from edge_sdk.export.layouts import HEAD
from edge_sdk.export.measure import measure
from edge_sdk.export.quantise.activations.channel_file import write_channels
from edge_sdk.export.quantise.activations.vision_statistics import FILE as VISION_STATISTICS
from edge_sdk.export.quantise.evidence import evidence_of, tokens_of, write_evidence
from edge_sdk.export.quantise.methods import Methods
from edge_sdk.export.quantise.plan import SEEN_STAGE, QuantisedPlan, part_name, scales_stage
from edge_sdk.export.quantise.probe_pictures import ERRORS
from edge_sdk.export.quantise.probing import compared, measure_together
from edge_sdk.export.quantise.statistics import widths
from edge_sdk.export.quantise.stored_file import StoredFile
from edge_sdk.export.references import SEED, write_measured
from edge_sdk.export.stage_store import OnBytes, Stage
from edge_sdk.files import sha256_of, write_bytes

# Wide, because ONNX Runtime on a CPU rounds the inputs of a quantised matrix to 8 bits, with a scale for each block.
TOLERANCE = 0.1


def quantised_stages(order: Order, plan: QuantisedPlan, work: Path) -> list[Stage]:
    """Every stage, the references last; each stage will have a folder of its name in `work`."""
    settings = quantise_code() | {"quantise": msgspec.to_builtins(plan.quantise)} | _seen(plan)
    keys = {part_name(key): key for key in plan.decoders}
    exact = list(language_stages(order, plan))
    # LoRA matrices beside scaled weights are scaled too, so they depend on those weights.
    scaled = BASE in plan.methods and plan.methods[BASE].scaled
    beside = {"base": next(each.inputs for each in exact if each.name == part_name(BASE))} if scaled else {}
    stages: list[Stage] = []
    for stage in exact:
        if stage.name == VISION and plan.few_vision:
            file = plan.few_vision.file
            stages.append(Stage(VISION, {**stage.inputs, **settings}, file.size_bytes, _writer(file)))
        elif stage.name in keys:
            stages += _decoder_stages(plan, keys[stage.name], {**stage.inputs, **quantise_code()})
        elif stage.name.startswith("lora."):
            own = _recovered(plan, stage.name.removeprefix("lora."))
            stages.append(replace(stage, inputs={**stage.inputs, **settings, **beside, **own}))
        elif stage.name == "graphs":
            stages.append(replace(stage, inputs={**stage.inputs, **settings}))
        else:
            stages.append(stage)
    if plan.sees_probes:
        stages.append(_seen_stage(plan, stages, work))
    return [*stages, *_channel_stages(plan), _reference_stage(plan, stages, work)]


def decoder_stages(stages: Sequence[Stage], plan: QuantisedPlan) -> Iterator[Stage]:
    """The `stages` whose results are measured on probes: the decoders' weights, and a quantised tower's outputs."""
    names = {file.location.removesuffix(".weights") for files in plan.files.values() for file in files.files}
    scales = {scales_stage(key, n) for key in plan.decoders for n in range(plan.checkpoint.config.text.layers)}
    tower = {VISION, SEEN_STAGE} if plan.sees_probes else set()
    return (stage for stage in stages if stage.name in names | scales | tower)


def _channel_stages(plan: QuantisedPlan) -> Iterator[Stage]:
    statistics, decoders = plan.statistics, list(plan.decoders)
    if statistics is None:
        return
    text, vision = plan.checkpoint.config.text, statistics.folder / VISION_STATISTICS
    size = 2 * 4 * sum(widths(text).values()) * text.layers * len(decoders)
    size += vision.stat().st_size if vision.is_file() else 0
    inputs = quantise_code() | {"decoders": decoders} | _seen(plan)
    yield Stage("activations", inputs, size, lambda draft, on_bytes: write_channels(statistics, decoders, draft))


def _decoder_stages(plan: QuantisedPlan, key: str, inputs: Inputs) -> Iterator[Stage]:
    """The stages of a decoder; a layer's depend only on its own formats, so that other choices do not affect it."""
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


def _recovered(plan: QuantisedPlan, adapter: str) -> Inputs:
    return {"recovered": plan.recovered[adapter].sha256} if adapter in plan.recovered else {}


def _formats(plan: QuantisedPlan, prefix: str) -> Inputs:
    return {name: msgspec.to_builtins(form) for name, form in plan.formats.items() if name.startswith(prefix)}


def _seen(plan: QuantisedPlan) -> Inputs:
    """Inputs that only a calibrated recipe depends on; without statistics only the CPU computes."""
    if plan.statistics is None:
        return {}
    return {"statistics": plan.statistics.identity(), "device": device_name(plan.device)}


# Separate functions, so that each stage captures its own layer and file, and not a loop's last ones.
def _scaler(methods: Methods, layer: int) -> Callable[[Path, OnBytes], None]:
    return lambda draft, on_bytes: methods.write_scales(layer, draft)


def _writer(file: StoredFile) -> Callable[[Path, OnBytes], None]:
    def make(draft: Path, on_bytes: OnBytes) -> None:
        (draft / FOLDER).mkdir()
        file.write(draft / FOLDER, on_bytes)

    return make


def _seen_stage(plan: QuantisedPlan, stages: Sequence[Stage], work: Path) -> Stage:
    """The stage with the calibration's probes as the stored tower sees them, and with the tower's error."""
    named = {stage.name: stage.inputs for stage in stages if stage.name.split(".")[0] in (VISION, "projector")}
    clips = len(plan.statistics.index.probes) if plan.statistics else 0
    size = sum(probe.path.stat().st_size for key in plan.decoders for probe in plan.probes(key))

    def make(draft: Path, on_bytes: OnBytes) -> None:
        change = plan.tower_change(_vision_folders(work))
        found = change.write(draft, lambda done: on_bytes(size * done // clips))
        write_bytes(draft / ERRORS, msgspec.json.encode(found))

    return Stage(SEEN_STAGE, {**named, **_seen(plan)}, size, make)


def _vision_folders(work: Path) -> dict[str, Path]:
    """The folder of the tower's file among the stages in `work`, by the file's location."""
    return {f"{VISION}.weights": work / VISION / FOLDER}


def _reference_stage(plan: QuantisedPlan, stages: Sequence[Stage], work: Path) -> Stage:
    """The stage of the references, computed with the stored weights, and of the evidence of what rounding costs."""

    def make(draft: Path, on_bytes: OnBytes) -> None:
        def on_progress(begin: float, done: int, total: int, what: str) -> None:
            on_bytes(int(effort * (begin + done / total / 2)))

        models = {key: plan.restored(key, folders_of(plan, key, work)) for key in plan.decoders}
        place, graphs, language = work / TEXT_STAGE, plan.entries(), plan.component()
        tuned = {key: model for key, model in models.items() if key != BASE}
        exported = Exported(place, graphs, language, plan.adapters, tuned)
        base = plan.with_vision(models.get(BASE, plan.checkpoint), _vision_folders(work))
        found = measure(base, exported, SEED, partial(on_progress, 0.0))
        references = write_measured(found, exported, draft, TOLERANCE)
        write_bytes(draft / REFERENCES, msgspec.json.encode(references))
        plain = Exported(place, graphs, language, plan.unfolded)
        exact = measure(plan.checkpoint, plain, SEED, partial(on_progress, 0.5), tokens_of(found.answers))
        outputs = ("logits", "tokens", "embeds") if plan.few_vision else ("logits",)
        evidence = evidence_of(plan.matrix_errors(models, base), found, exact, outputs)
        write_evidence(
            draft,
            msgspec.structs.replace(
                evidence,
                probes=dict(_probe_changes(plan, models, work)),
                tower=_tower_error(plan, work),
                sensitivity=plan.sensitivity,
                choice=plan.choice,
                recovered={name: each.told for name, each in plan.recovered.items()},
                device=device_name(plan.device if plan.statistics or plan.recovered else CPU),
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
        probes = plan.probes(key)
        exact, states = plan.methods[key].weights, work / f"measured.{key}"
        change = measure_together(exact, models[key], probes, states, plan.device)
        yield (
            key,
            ProbeChange(
                clips=len(index.probes),
                held_out=index.held_out,
                tower=plan.sees_probes,
                rows=compared(probes),
                change=change,
            ),
        )


def _tower_error(plan: QuantisedPlan, work: Path) -> TowerError | None:
    if not plan.sees_probes:
        return None
    return msgspec.json.decode((work / SEEN_STAGE / ERRORS).read_bytes(), type=TowerError)


def _hashes(plan: QuantisedPlan, work: Path) -> Iterator[tuple[str, str]]:
    """SHA-256 of the quantised weights and of recovered LoRA matrices, by their paths in the bundle."""
    for key in plan.decoders:
        for location, folder in sorted(folders_of(plan, key, work).items()):
            yield f"{FOLDER}/{location}", sha256_of(folder / location)
    for name in plan.recovered:
        yield lora_file(name), sha256_of(work / f"lora.{name}" / lora_file(name))
    if plan.few_vision:
        location = plan.few_vision.file.location
        yield f"{FOLDER}/{location}", sha256_of(work / VISION / FOLDER / location)


def folders_of(plan: QuantisedPlan, key: str, work: Path) -> dict[str, Path]:
    """The folders of the decoder `key`'s weight files among the stages in `work`, by the files' locations."""
    return {file.location: work / file.location.removesuffix(".weights") / FOLDER for file in plan.files[key].files}
