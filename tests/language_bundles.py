"""Bundles of a small video LLM, put together by hand from the graphs, with every kind of file that a real one has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from checkpoint_makers import make_model, save
from decoder_loop import lively
from safetensors.torch import save_file
from toy_tokenizer import write_checkpoint_files

from edge_sdk.bundle import Bundle, write_bundle
from edge_sdk.bundle.manifest import Graph
from edge_sdk.bundle.manifest_language import (
    Adapter as AdapterEntry,
)
from edge_sdk.bundle.manifest_language import (
    Compression,
    DecoderGraph,
    DecoderSet,
    Embedding,
    Language,
    VisionProfile,
)
from edge_sdk.bundle.model_sizes import DecoderSizes, VisionSizes
from edge_sdk.export.adapters import Adapter, Merged
from edge_sdk.export.checkpoint import Checkpoint, Weights
from edge_sdk.export.exported import Exported
from edge_sdk.export.graphs.decoder_io import DecoderForm
from edge_sdk.export.graphs.decoder_onnx import decoder_graph
from edge_sdk.export.graphs.lora import lora_inputs
from edge_sdk.export.graphs.onnx_graph import ModelGraph
from edge_sdk.export.graphs.vision import Grid
from edge_sdk.export.graphs.vision_onnx import projector_graph, vision_graph
from edge_sdk.export.graphs.weight_file import Part, WeightFile
from edge_sdk.export.layouts import EMBEDDING
from edge_sdk.export.references import write_references
from edge_sdk.export.tokenizer import tokenizer_json
from edge_sdk.reasoning import CONTROL_TOKENS, Prompt, Tokenizer
from edge_sdk.tasks import TASK_IDS, TASKS
from edge_sdk.types import Dialect, DType

DIALECTS: tuple[Dialect, ...] = ("native", "decomposed")
# Of the tokenizer, up to VideoLLaMA3's own tokens; `make_model` puts the video's id 7 below the end.
IMAGE = CONTROL_TOKENS["<image>"]
VOCABULARY = IMAGE + 7
RANK = 4


def speaking_model(*, tied: bool = False, seed: int = 0) -> Any:
    """A tiny model whose vocabulary holds the true control tokens, and whose matrices are large enough to matter."""
    text = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
    vision = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 40}
    return lively(make_model(text, vision, layers=2, vocabulary=VOCABULARY, tied=tied, seed=seed))


def save_speaking(model: Any, folder: Path) -> Path:
    """A checkpoint's folder with the files of a tokenizer."""
    save(model, folder)
    write_checkpoint_files(folder)
    return folder


@cache
def texts() -> tuple[str, str]:
    """`tokenizer.json` of the toy vocabulary, and the six questions in it, as their files hold them."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_checkpoint_files(folder)
        text = tokenizer_json(folder)
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")
        prompt = Prompt(Tokenizer.open(folder / "tokenizer.json"))
    asked = {task.id: {"text": task.prompt, "ids": prompt.question(task.prompt).tolist()} for task in TASKS}
    return text, json.dumps(asked)


class Assembly:
    """The parts of one bundle, in a folder that they are written to once.

    `adapters` are folders by name; none is one entry called `base`. `switchable`: LoRA as inputs of one decoder.
    """

    def __init__(
        self,
        checkpoint: Path,
        folder: Path,
        adapters: Mapping[str, Path] | None = None,
        *,
        switchable: bool = False,
        dtype: DType = "float32",
        slots: tuple[int, ...] = (64, 640),
        sides: tuple[tuple[int, int], ...] = ((84, 56), (56, 28)),
    ) -> None:
        self.weights = Checkpoint.open(checkpoint)
        self.folder, self.dtype, self.slots, self.sides = folder, dtype, slots, sides
        self.switchable = switchable
        self.adapters = {name: Adapter.open(path) for name, path in (adapters or {}).items()}
        self.names = list(self.adapters) or ["base"]
        (folder / "language").mkdir(parents=True)
        self.graphs: dict[str, Graph] = {}
        self.files_by_name: dict[str, WeightFile] = {}
        self._text_files()
        self.language = self._language()

    def exported(self) -> Exported:
        return Exported(self.folder, self.graphs, self.language, self.adapters)

    def write(self, out: Path) -> Bundle:
        """The bundle with its references."""
        found = write_references(self.weights, self.exported(), self.folder, lambda *_: None)
        graphs, language = found.apply(self.graphs, self.language)
        return self.write_as(out, graphs, language)

    def write_as(self, out: Path, graphs: Mapping[str, Graph], language: Language) -> Bundle:
        """The bundle as it lies in the folder, with whatever the manifest is to say."""
        files: dict[str, Path | bytes] = {
            path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*") if path.is_file()
        }
        return write_bundle(out, name="speaking", version="1", graphs=graphs, files=files, language=language)

    def _text_files(self) -> None:
        place, (tokenizer, prompts) = self.folder / "language", texts()
        (place / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
        (place / "prompts.json").write_text(prompts, encoding="utf-8")
        table = self.weights.tensor(EMBEDDING).float().numpy().astype(self.dtype)
        (place / "embed_tokens.bin").write_bytes(table.tobytes())

    def _file(self, weights: Weights, part: Part, location: str) -> WeightFile:
        file = WeightFile(weights, part, self.dtype, location)
        file.write(self.folder / "language")
        self.files_by_name[location] = file
        return file

    def _save(self, name: str, graph: ModelGraph) -> str:
        graph.save(self.folder / f"language/{name}.onnx")
        self.graphs[name] = graph.entry(f"language/{name}.onnx")
        return name

    def _tuned(self, name: str) -> Weights:
        return Merged(self.weights, self.adapters[name]) if name in self.adapters else self.weights

    def _language(self) -> Language:
        config, vision = self.weights.config, self.weights.config.vision
        decoders = self._decoders()
        return Language(
            model="tiny",
            dtype=self.dtype,
            vision=VisionSizes(
                layers=vision.layers,
                hidden=vision.hidden,
                heads=vision.heads,
                intermediate=vision.intermediate,
                patch_values=vision.patch_values,
            ),
            decoder=msgspec.convert(
                {name: getattr(config.text, name) for name in DecoderSizes.__struct_fields__}, DecoderSizes
            ),
            patch=vision.patch,
            pixel_mean=(0.5, 0.5, 0.5),
            pixel_std=(0.5, 0.5, 0.5),
            embedding=Embedding(
                file="language/embed_tokens.bin",
                dtype=self.dtype,
                vocab=config.text.vocab,
                hidden=config.text.hidden,
            ),
            tokenizer="language/tokenizer.json",
            prompts="language/prompts.json",
            image_token=IMAGE,
            end_tokens=(CONTROL_TOKENS["<|im_end|>"],),
            compression=Compression(),
            profiles=self._profiles(),
            decoders=decoders,
            adapters={name: self._adapter(name, decoders) for name in self.names},
        )

    def _profiles(self) -> dict[str, VisionProfile]:
        file, config = self._file(self.weights, "vision", "vision.weights"), self.weights.config.vision
        found = {}
        for frames, (width, height) in zip((96, 48), self.sides, strict=True):
            grid = Grid(rows=height // 14, columns=width // 14)
            graphs = {
                dialect: self._save(f"vision.{frames}f.{dialect}", vision_graph(config, grid, file, dialect))
                for dialect in DIALECTS
            }
            found[f"{frames}f"] = VisionProfile(frames=frames, rate_hz=10.0, width=width, height=height, graphs=graphs)
        return found

    def _decoders(self) -> dict[str, DecoderSet]:
        if self.switchable or not self.adapters:
            return {"base": self._decoder("decoder", self.weights, RANK if self.switchable else 0)}
        return {name: self._decoder(f"decoder.{name}", self._tuned(name), 0) for name in self.names}

    def _decoder(self, stem: str, weights: Weights, rank: int) -> DecoderSet:
        file, text = self._file(weights, "decoder", f"{stem}.weights"), weights.config.text
        graphs = []
        for slots in self.slots:
            for dialect in DIALECTS:
                form = DecoderForm(dialect=dialect, slots=slots, dtype=self.dtype, lora_rank=rank)
                name = self._save(f"{stem}.{slots}.{dialect}", decoder_graph(text, form, file))
                graphs.append(DecoderGraph(dialect=dialect, slots=slots, graph=name))
        return DecoderSet(graphs=tuple(graphs), lora_rank=rank)

    def _adapter(self, name: str, decoders: Mapping[str, DecoderSet]) -> AdapterEntry:
        file, config = self._file(self._tuned(name), "projector", f"projector.{name}.weights"), self.weights.config
        projector = {
            dialect: self._save(f"projector.{name}.{dialect}", projector_graph(config.projector, file, dialect))
            for dialect in DIALECTS
        }
        lora = None
        if self.switchable:
            lora = f"language/lora.{name}.safetensors"
            form = DecoderForm(dialect="native", slots=8, dtype=self.dtype, lora_rank=RANK)
            values = {key: value.contiguous() for key, value in lora_inputs(self.adapters[name], config.text, form)}
            save_file(values, self.folder / lora)
        return AdapterEntry(
            projector=projector,
            decoder=name if name in decoders else "base",
            lora=lora,
            tasks=tuple(task.id for task in TASKS if task.adapter == name) or TASK_IDS,
        )
