"""The stages of a language export in order, each with all its inputs, so that other changes do not invalidate it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_sdk.export.code_digest import export_code
from edge_sdk.export.export_recipe import BASE, Order
from edge_sdk.export.exported import Exported
from edge_sdk.export.graphs.weight_file import WeightFile
from edge_sdk.export.language_files import FOLDER, TABLE, lora_size_bytes, write_lora, write_table, write_text_files
from edge_sdk.export.language_plan import LanguagePlan, lora_file
from edge_sdk.export.layouts import EMBEDDING
from edge_sdk.export.parser_check import check_decomposed
from edge_sdk.export.references import References, write_references
from edge_sdk.export.stage_store import OnBytes, Stage
from edge_sdk.files import write_bytes
from edge_sdk.verify.reference_files import MAX_REFERENCE_BYTES

TEXT_STAGE, REFERENCE_STAGE = "tokenizer", "references"
REFERENCES = "references.json"
_WEIGHTS = ("config.json", "*.safetensors", "*.bin", "*.index.json")
_TEXT = ("config.json", "tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json")
_PROMPTS_BYTES = 100_000
# Computing the references takes about as long as writing the bundle this many times (7B: 180 s against 110 s).
_REFERENCE_EFFORT = 2
# Any: a stage's inputs are JSON values.
Inputs = dict[str, Any]


def language_stages(order: Order, plan: LanguagePlan) -> Iterator[Stage]:
    """Every stage that reads no other stage's files, in the order in which they are made."""
    weights = _base(order) | {"dtype": plan.recipe.dtype}
    yield _text_stage(order, plan)
    if plan.embedding.file == TABLE:
        yield _table_stage(plan, weights)
    yield _weight_stage("vision", plan.vision, weights)
    for name, projector in plan.projectors.items():
        own = {} if plan.recipe.base_projector else _adapter(order, name)
        yield _weight_stage(f"projector.{name}", projector, weights | own)
    for key, decoder in plan.decoders.items():
        name = "decoder" if key == BASE else f"decoder.{key}"
        yield _weight_stage(name, decoder.weights, weights | (_adapter(order, key) if key != BASE else {}))
    yield _graph_stage(plan)
    for name, decoder_key in plan.decoder_of.items():
        if plan.decoders[decoder_key].lora_rank:
            yield _lora_stage(order, plan, name)


def reference_stage(plan: LanguagePlan, stages: Sequence[Stage], text: Path) -> Stage:
    """The stage of the references, for a bundle of `stages`; `text` is the folder with tokenizer and prompts."""
    exported = Exported(folder=text, graphs=plan.entries(), language=plan.component(), adapters=plan.adapters)

    def make(draft: Path, on_bytes: OnBytes) -> None:
        def on_progress(done: int, total: int, what: str) -> None:
            on_bytes(effort * done // total)

        references = write_references(plan.checkpoint, exported, draft, on_progress)
        write_bytes(draft / REFERENCES, msgspec.json.encode(references))

    effort = _REFERENCE_EFFORT * sum(stage.size_bytes for stage in stages)
    size = MAX_REFERENCE_BYTES * (len(plan.graphs) + len(plan.projectors))
    inputs = {stage.name: stage.inputs for stage in stages} | {"language": msgspec.to_builtins(exported.language)}
    return Stage(REFERENCE_STAGE, inputs, size, make, effort)


def read_references(folder: Path) -> References:
    """Read what the references' stage has written to its folder."""
    return msgspec.json.decode((folder / REFERENCES).read_bytes(), type=References)


def _text_stage(order: Order, plan: LanguagePlan) -> Stage:
    folder = Path(order.checkpoint)
    # Qwen2.5's vocabulary and merges, 4.4 MB, make a tokenizer.json of 5.4 MB.
    size = _PROMPTS_BYTES + 2 * sum(path.stat().st_size for path in _files(folder, _TEXT))

    def make(draft: Path, on_bytes: OnBytes) -> None:
        (draft / FOLDER).mkdir()
        write_text_files(folder, plan.component(), draft)
        on_bytes(size)

    return Stage(TEXT_STAGE, export_code() | {"checkpoint": _print(folder, _TEXT)}, size, make)


def _table_stage(plan: LanguagePlan, inputs: Inputs) -> Stage:
    text = plan.checkpoint.config.text
    size = text.vocab * text.hidden * plan.vision.item_bytes

    def make(draft: Path, on_bytes: OnBytes) -> None:
        (draft / FOLDER).mkdir()
        write_table(plan.checkpoint, plan.recipe.dtype, draft / TABLE, on_bytes)

    return Stage("embedding", inputs | {"tensor": EMBEDDING}, size, make)


def _weight_stage(name: str, weights: WeightFile, inputs: Inputs) -> Stage:
    def make(draft: Path, on_bytes: OnBytes) -> None:
        (draft / FOLDER).mkdir()
        weights.write(draft / FOLDER, lambda done, total: on_bytes(done))

    return Stage(name, inputs, weights.size_bytes, make)


def _graph_stage(plan: LanguagePlan) -> Stage:
    decoders = {key: [each.lora_rank, each.lora_linears] for key, each in plan.decoders.items()}
    settings = msgspec.to_builtins(plan.recipe)
    chosen = {key: settings[key] for key in ("profiles", "dialects", "dtype", "slots")}
    config = msgspec.to_builtins(plan.checkpoint.config)
    inputs = export_code() | chosen | {"config": config, "decoders": decoders, "projectors": list(plan.projectors)}

    def make(draft: Path, on_bytes: OnBytes) -> None:
        (draft / FOLDER).mkdir()
        for key, graph in plan.graphs.items():
            if graph.dialect == "decomposed":
                check_decomposed(graph.model)
            graph.save(draft / FOLDER / f"{key}.onnx")

    return Stage("graphs", inputs, sum(graph.model.ByteSize() for graph in plan.graphs.values()), make)


def _lora_stage(order: Order, plan: LanguagePlan, name: str) -> Stage:
    decoder = plan.decoders[plan.decoder_of[name]]
    text, form = plan.checkpoint.config.text, decoder.form(plan.recipe.dialects[0], plan.recipe.slots[0])
    shape = {"rank": decoder.lora_rank, "linears": decoder.lora_linears, "dtype": form.dtype}
    inputs = export_code() | _adapter(order, name) | {"text": msgspec.to_builtins(text), "form": shape}

    def make(draft: Path, on_bytes: OnBytes) -> None:
        (draft / FOLDER).mkdir()
        write_lora(plan.adapters[name], text, form, draft / lora_file(name), on_bytes)

    return Stage(f"lora.{name}", inputs, lora_size_bytes(text, form), make)


def _base(order: Order) -> Inputs:
    return export_code() | {"checkpoint": _print(Path(order.checkpoint), _WEIGHTS)}


def _adapter(order: Order, name: str) -> Inputs:
    if name not in order.adapters:
        return {}
    return {"adapter": _print(Path(order.adapters[name]), ("adapter_config.json", "adapter_model.*", "*.bin"))}


def _print(folder: Path, patterns: tuple[str, ...]) -> Inputs:
    """Fingerprint of a folder's files without reading them: the folder's path, file sizes and modification times."""
    files = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in _files(folder, patterns)}
    return {"folder": str(folder.resolve()), "files": files}


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
