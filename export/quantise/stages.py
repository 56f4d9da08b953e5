"""The stages of a quantised bundle: those of an export, with a stage for each layer of a decoder in place of one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import msgspec

from edge_sdk.export.export_recipe import BASE, Order
from edge_sdk.export.exported import Exported
from edge_sdk.export.language_files import FOLDER
from edge_sdk.export.language_stages import REFERENCES, TEXT_STAGE, Inputs, language_stages, reference_stage
from edge_sdk.export.measure import measure
from edge_sdk.export.quantise.evidence import evidence_of, tokens_of, write_evidence
from edge_sdk.export.quantise.methods import Methods
from edge_sdk.export.quantise.plan import QuantisedPlan, part_name, scales_stage
from edge_sdk.export.quantise.stored_file import StoredFile
from edge_sdk.export.references import SEED, write_measured
from edge_sdk.export.stage_store import OnBytes, Stage
from edge_sdk.files import write_bytes

# ONNX Runtime on a CPU rounds the rows that meet a few-bit matrix to 8 bits, a scale for each block.
TOLERANCE = 0.1


def quantised_stages(order: Order, plan: QuantisedPlan, work: Path) -> list[Stage]:
    """Every stage, the references last; `work` is the folder in which each will have one of its name."""
    seen = {"statistics": plan.statistics.identity()} if plan.statistics else {}
    settings = _code() | {"quantise": msgspec.to_builtins(plan.quantise)} | seen
    keys = {part_name(key): key for key in plan.decoders}
    stages: list[Stage] = []
    for stage in language_stages(order, plan):
        if stage.name in keys:
            stages += _decoder_stages(plan, keys[stage.name], {**stage.inputs, **settings})
        elif stage.name == "graphs" or stage.name.startswith("lora."):
            stages.append(replace(stage, inputs={**stage.inputs, **settings}))
        else:
            stages.append(stage)
    return [*stages, _reference_stage(plan, stages, work)]


def _decoder_stages(plan: QuantisedPlan, key: str, inputs: Inputs) -> Iterator[Stage]:
    methods = plan.methods[key]
    text = plan.checkpoint.config.text
    if methods.scaled:
        size = 4 * (2 * text.hidden + text.intermediate)
        for layer in range(text.layers):
            yield Stage(scales_stage(key, layer), inputs, size, _scaler(methods, layer))
    for file in plan.files[key].files:
        yield Stage(file.location.removesuffix(".weights"), inputs, file.size_bytes, _writer(file))


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

        models = {key: plan.restored(key, _folders(plan, key, work)) for key in plan.decoders}
        place, graphs, language = work / TEXT_STAGE, plan.entries(), plan.component()
        tuned = {key: model for key, model in models.items() if key != BASE}
        exported = Exported(place, graphs, language, plan.adapters, tuned)
        base = models.get(BASE, plan.checkpoint)
        found = measure(base, exported, SEED, partial(on_progress, 0.0))
        references = write_measured(found, exported, draft, TOLERANCE)
        write_bytes(draft / REFERENCES, msgspec.json.encode(references))
        plain = Exported(place, graphs, language, plan.unfolded)
        exact = measure(plan.checkpoint, plain, SEED, partial(on_progress, 0.5), tokens_of(found.answers))
        write_evidence(draft, evidence_of(plan.matrix_errors(models), found, exact))

    plain = reference_stage(plan, stages, work / TEXT_STAGE)
    effort = 2 * plain.effort
    return replace(plain, make=make, effort_bytes=effort)


def _folders(plan: QuantisedPlan, key: str, work: Path) -> dict[str, Path]:
    return {file.location: work / file.location.removesuffix(".weights") / FOLDER for file in plan.files[key].files}


@cache
def _code() -> Inputs:
    """This version of the quantisation code, as `language_stages` has that of the export."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return {"quantise_code": digest.hexdigest()[:12]}
