"""Small speaking bundles that need no torch, to ask questions of, and what numpy says to the same questions.

Pictures have the size that the model sees, so that nothing is resized; a part of each stands still, so that compression
has something to drop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from safetensors.numpy import save_file
from toy_graphs import Part
from toy_model import (
    HEAD_DIM,
    HEADS,
    HIDDEN,
    INNER,
    KV_HEADS,
    LAYERS,
    RANK,
    VISION,
    NumpyModel,
    decoder_weights,
    lora_weights,
    projector_weights,
    vision_weights,
)
from toy_tokenizer import small_tokenizer

from edge_sdk.bundle import Bundle, write_bundle
from edge_sdk.bundle.manifest import Graph
from edge_sdk.bundle.manifest_language import (
    Adapter,
    Compression,
    DecoderGraph,
    DecoderSet,
    Embedding,
    Language,
    VisionProfile,
)
from edge_sdk.bundle.model_sizes import DecoderSizes, VisionSizes
from edge_sdk.reasoning import Prompt, PromptFrame, Tokenizer
from edge_sdk.reasoning.patches import Pixels, patchify
from edge_sdk.runtime import Array
from edge_sdk.tasks import TASK_IDS, TASKS
from edge_sdk.types import Dialect

Kind = Literal["base", "merged", "switchable"]

DIALECTS: tuple[Dialect, ...] = ("native", "decomposed")
SIDES = ((84, 56), (56, 28))
SLOTS = (256, 1536)
# Ids behind those of the tokenizer only pad it, as in published models.
VOCABULARY = 8192
# What free text is made of, the printable characters of ASCII. So no answer ends by itself: limits end all of them.
SPOKEN = 94
STEP_S = 0.1
SHORT = {
    "recognition": "Was there a crash?",
    "description": "What is seen here?",
    "cause": "Why so?",
    "prevention": "What would have prevented it from happening?",
    "crash_interval": "From when to when?",
    "pre_crash_time": "Since when was it to be foreseen?",
}


def pictures(count: int, seed: int = 0) -> list[Pixels]:
    """Random pictures whose left half stands still, and in every third one the right half as well."""
    random = np.random.default_rng(seed)
    width, height = SIDES[0]
    found = [random.integers(0, 256, (height, width, 3), np.uint8)]
    for number in range(1, count):
        new = found[-1].copy()
        if number % 3:
            new[:, width // 2 :] = random.integers(0, 256, (height, width - width // 2, 3), np.uint8)
        found.append(new)
    return found


class ToySpeaker(NamedTuple):
    """A bundle, its table of embeddings, and the model behind each of its adapters."""

    bundle: Bundle
    embeddings: Array
    models: Mapping[str, NumpyModel]
    tokenizer: Tokenizer

    def greedy(self, task: str, shown: Sequence[Pixels], count: int) -> str:
        """numpy's own answer of `count` tokens to `task`, each from the whole sequence."""
        language = self.bundle.manifest.language
        assert language is not None
        model = next(self.models[name] for name, each in language.adapters.items() if task in each.tasks)
        pixels = patchify(np.stack(shown), language.patch).astype(np.float32)
        kept = _kept(pixels)
        images = model.images(model.tokens(pixels / 127.5 - 1)[kept])
        frames = [PromptFrame(time_s=STEP_S * number, tokens=int(keep.sum())) for number, keep in enumerate(kept)]
        ids = Prompt(self.tokenizer).whole(frames, SHORT[task])
        rows = self.embeddings[ids]
        rows[ids == language.image_token] = images
        said: list[int] = []
        while len(said) < count:
            said.append(int(model.logits(rows).argmax()))
            rows = np.concatenate([rows, self.embeddings[said[-1:]]])
        return self.tokenizer.decode(said)


def _kept(pixels: Array) -> Array:
    """Tokens whose window of four patches has changed, the first of a picture that stands still, and a whole start."""
    windows = pixels.reshape(len(pixels), -1, 4 * pixels.shape[2])
    kept = np.ones(windows.shape[:2], bool)
    kept[1:] = np.abs(np.diff(windows, axis=0)).mean(2) > 0
    kept[~kept.any(1), 0] = True
    return kept


def make_toy_speaker(folder: Path, kind: Kind, *, slots: tuple[int, ...] = SLOTS) -> ToySpeaker:
    """A speaking bundle of two adapters, "merged" or "switchable", or "base": one model for all tasks."""
    parts = ToyParts(folder / "parts", kind, slots)
    bundle = write_bundle(
        folder / "bundle", name="toy", version="1", graphs=parts.graphs, files=parts.files(), language=parts.language
    )
    return ToySpeaker(bundle, parts.embeddings, parts.models, parts.tokenizer)


class ToyParts:
    """Graphs, files and manifest entries of a language part, written below `folder`."""

    def __init__(self, folder: Path, kind: Kind, slots: tuple[int, ...]) -> None:
        self.folder, self.kind, self.slots = folder, kind, slots
        self._root = folder / "language"
        self._root.mkdir(parents=True)
        self.graphs: dict[str, Graph] = {}
        self.models: dict[str, NumpyModel] = {}
        self.tokenizer = self._texts()
        self.embeddings = np.random.default_rng(1).standard_normal((VOCABULARY, HIDDEN)).astype(np.float32)
        (self._root / "embed_tokens.bin").write_bytes(self.embeddings.tobytes())
        self.language = self._language()

    def files(self) -> dict[str, Path | bytes]:
        """Everything that was written, by its path in a bundle."""
        return {each.relative_to(self.folder).as_posix(): each for each in self._root.iterdir()}

    def _texts(self) -> Tokenizer:
        small_tokenizer().save(str(self._root / "tokenizer.json"))
        (self._root / "prompts.json").write_text(json.dumps({task: {"text": text} for task, text in SHORT.items()}))
        return Tokenizer.open(self._root / "tokenizer.json")

    def _language(self) -> Language:
        control = self.tokenizer.control
        vision = vision_weights(2)
        profiles = self._profiles(Part.write(self._root, "vision", vision))
        decoders, adapters = self._tuned(vision)
        return Language(
            model="toy",
            dtype="float32",
            vision=VisionSizes(layers=1, hidden=VISION, heads=2, intermediate=VISION),
            decoder=DecoderSizes(
                layers=LAYERS,
                hidden=HIDDEN,
                heads=HEADS,
                kv_heads=KV_HEADS,
                head_dim=HEAD_DIM,
                intermediate=INNER,
                vocab=VOCABULARY,
            ),
            patch=14,
            pixel_mean=(0.5, 0.5, 0.5),
            pixel_std=(0.5, 0.5, 0.5),
            embedding=Embedding(file="language/embed_tokens.bin", dtype="float32", vocab=VOCABULARY, hidden=HIDDEN),
            tokenizer="language/tokenizer.json",
            prompts="language/prompts.json",
            image_token=control.image,
            end_tokens=(control.im_end,),
            compression=Compression(),
            profiles=profiles,
            decoders=decoders,
            adapters=adapters,
        )

    def _profiles(self, part: Part) -> dict[str, VisionProfile]:
        found = {}
        for frames, (width, height) in zip((96, 48), SIDES, strict=True):
            name = self._add(f"vision.{frames}f", part.vision(f"vision.{frames}f", width * height // 14**2))
            found[f"{frames}f"] = VisionProfile(
                frames=frames, rate_hz=10.0, width=width, height=height, graphs=dict.fromkeys(DIALECTS, name)
            )
        return found

    def _tuned(self, vision: Mapping[str, Array]) -> tuple[dict[str, DecoderSet], dict[str, Adapter]]:
        decoders, adapters = dict[str, DecoderSet](), dict[str, Adapter]()
        for seed, name in enumerate(("base",) if self.kind == "base" else ("linguistic", "perception"), 3):
            own = name if self.kind == "merged" else "base"
            weights = self._decoder(own, decoders, seed if self.kind == "merged" else 3)
            lora, file = dict[str, Array](), None
            if self.kind == "switchable":
                lora, file = lora_weights(seed), f"language/lora.{name}.safetensors"
                save_file(lora, self.folder / file)
            projector = projector_weights(seed)
            self.models[name] = NumpyModel(vision, projector, weights, lora)
            stem = f"projector.{name}"
            graph = self._add(stem, Part.write(self._root, stem, projector).projector(stem))
            tasks = tuple(task.id for task in TASKS if task.adapter == name) or TASK_IDS
            adapters[name] = Adapter(projector=dict.fromkeys(DIALECTS, graph), decoder=own, lora=file, tasks=tasks)
        return decoders, adapters

    def _decoder(self, name: str, decoders: dict[str, DecoderSet], seed: int) -> Mapping[str, Array]:
        weights = decoder_weights(SPOKEN, VOCABULARY, seed)
        if name not in decoders:
            part, switchable = Part.write(self._root, f"decoder.{name}", weights), self.kind == "switchable"
            graphs = []
            for slots in self.slots:
                for dialect in DIALECTS:
                    stem = f"decoder.{name}.{slots}.{dialect}"
                    self._add(stem, part.decoder(stem, dialect, slots, switchable=switchable))
                    graphs.append(DecoderGraph(dialect=dialect, slots=slots, graph=stem))
            decoders[name] = DecoderSet(graphs=tuple(graphs), lora_rank=RANK if switchable else 0)
        return weights

    def _add(self, name: str, graph: Graph) -> str:
        self.graphs[name] = graph
        return name
