"""Plan a language bundle from headers alone: its parts, their weight files, graphs and names.

Only configurations and headers are read, so an order that cannot be met is refused in seconds, and the disk space
that it takes is known to the byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from edge_sdk.bundle.manifest import Graph
from edge_sdk.bundle.manifest_language import Adapter as AdapterEntry
from edge_sdk.bundle.manifest_language import Compression, DecoderGraph, DecoderSet, Embedding, Language, VisionProfile
from edge_sdk.bundle.model_sizes import DecoderSizes, VisionSizes
from edge_sdk.errors import ConfigError
from edge_sdk.export.adapters import Adapter, Merged
from edge_sdk.export.checkpoint import Checkpoint, Weights
from edge_sdk.export.export_recipe import BASE, Order, tasks_of
from edge_sdk.export.graphs.decoder_io import DecoderForm
from edge_sdk.export.graphs.decoder_onnx import decoder_graph
from edge_sdk.export.graphs.onnx_graph import ModelGraph
from edge_sdk.export.graphs.vision import Grid
from edge_sdk.export.graphs.vision_onnx import projector_graph, vision_graph
from edge_sdk.export.graphs.weight_file import WeightFile
from edge_sdk.export.language_files import FOLDER, PROMPTS, TABLE, TOKENIZER
from edge_sdk.export.layouts import HEAD, LINEARS
from edge_sdk.reasoning.grid import PROFILES
from edge_sdk.reasoning.text import CONTROL_TOKENS, IMAGE
from edge_sdk.types import Dialect

Pixels = tuple[float, float, float]


@dataclass(frozen=True)
class Decoder:
    """One set of decoder weights, and the LoRA inputs of its graphs."""

    weights: WeightFile
    lora_rank: int = 0
    lora_linears: tuple[str, ...] = ()

    def form(self, dialect: Dialect, slots: int) -> DecoderForm:
        """The form of the decoder's graph for a dialect and a number of cache slots."""
        return DecoderForm(
            dialect=dialect,
            slots=slots,
            dtype=self.weights.dtype,
            lora_rank=self.lora_rank,
            lora_linears=self.lora_linears or tuple(LINEARS),
        )


class LanguagePlan:
    """The parts of one order. Keys of `decoders` and `projectors` are those of the manifest."""

    # Whether the host may read the embedding table from the weights of the tied head.
    _HEAD_AS_TABLE: ClassVar[bool] = True

    def __init__(
        self, order: Order, checkpoint: Checkpoint, adapters: Mapping[str, Adapter], pixels: tuple[Pixels, Pixels]
    ) -> None:
        """Raises `CheckpointError` for an adapter of another base, `ConfigError` for slots beyond the positions."""
        self.recipe, self.checkpoint, self.adapters, self._pixels = order.recipe, checkpoint, adapters, pixels
        self._model = Path(order.checkpoint).resolve().name
        longest = checkpoint.config.text.max_positions
        if max(self.recipe.slots) > longest:
            raise ConfigError(f"slots: this model has {longest} positions, found {max(self.recipe.slots)}; give fewer")
        tuned: Mapping[str, Weights] = {name: Merged(checkpoint, each) for name, each in adapters.items()}
        dtype = self.recipe.dtype
        self.vision = WeightFile(checkpoint, "vision", dtype)
        self.projectors = {
            name: WeightFile(weights, "projector", dtype, f"projector.{name}.weights")
            for name, weights in (tuned or {BASE: checkpoint}).items()
        }
        self.decoders = self._merged(tuned) if tuned and not self.recipe.switchable else {BASE: self._shared()}

    @property
    def decoder_of(self) -> dict[str, str]:
        """Which of `decoders` each adapter uses."""
        return {name: name if name in self.decoders else BASE for name in self.projectors}

    @property
    def embedding(self) -> Embedding:
        """Where the token embedding table lies: in the decoder's weight file if it holds the table, else on its own."""
        text, weights = self.checkpoint.config.text, next(iter(self.decoders.values())).weights
        held = weights.holds_table
        return Embedding(
            file=f"{FOLDER}/{weights.location}" if held else TABLE,
            dtype=self.recipe.dtype,
            vocab=text.vocab,
            hidden=text.hidden,
            offset_bytes=weights[HEAD].offset if held else None,
        )

    @cached_property
    def graphs(self) -> dict[str, ModelGraph]:
        """Every graph by its key."""
        return dict(self._graphs())

    def entries(self) -> dict[str, Graph]:
        """The manifest's `graphs`, without references."""
        return {key: graph.entry(f"{FOLDER}/{key}.onnx") for key, graph in self.graphs.items()}

    def component(self) -> Language:
        """The manifest's `language`, without references."""
        config, text = self.checkpoint.config, self.checkpoint.config.text
        mean, deviation = self._pixels
        return Language(
            model=self._model,
            dtype=self.recipe.dtype,
            vision=VisionSizes(
                layers=config.vision.layers,
                hidden=config.vision.hidden,
                heads=config.vision.heads,
                intermediate=config.vision.intermediate,
                patch_values=config.vision.patch_values,
            ),
            decoder=DecoderSizes(
                layers=text.layers,
                hidden=text.hidden,
                heads=text.heads,
                kv_heads=text.kv_heads,
                head_dim=text.head_dim,
                intermediate=text.intermediate,
                vocab=text.vocab,
            ),
            patch=config.vision.patch,
            pixel_mean=mean,
            pixel_std=deviation,
            embedding=self.embedding,
            tokenizer=TOKENIZER,
            prompts=PROMPTS,
            image_token=self._image_token,
            end_tokens=config.tokens.end,
            compression=Compression() if config.compression else None,
            profiles={name: self._profile(name) for name in self.recipe.profiles},
            decoders={key: self._decoder_set(key) for key in self.decoders},
            adapters={name: self._adapter(name) for name in self.projectors},
        )

    @property
    def _image_token(self) -> int:
        """Id of the prompt's `<image>`; transformers' layout names another Qwen2.5 token, which no prompt contains."""
        learnt, config = CONTROL_TOKENS[IMAGE], self.checkpoint.config
        return learnt if config.text.vocab > learnt else config.tokens.image

    def _merged(self, tuned: Mapping[str, Weights]) -> dict[str, Decoder]:
        return {
            name: Decoder(self._decoder_weights(weights, f"decoder.{name}.weights")) for name, weights in tuned.items()
        }

    def _shared(self) -> Decoder:
        """The checkpoint's own decoder, with room for the largest of the adapters where there are any."""
        linears = {linear for adapter in self.adapters.values() for linear in adapter.linears}
        return Decoder(
            self._decoder_weights(self.checkpoint),
            max((adapter.config.rank for adapter in self.adapters.values()), default=0),
            tuple(linear for linear in LINEARS if linear in linears),
        )

    def _decoder_weights(self, weights: Weights, location: str = "") -> WeightFile:
        return WeightFile(weights, "decoder", self.recipe.dtype, location, hold_table=self._HEAD_AS_TABLE)

    def _graphs(self) -> Iterator[tuple[str, ModelGraph]]:
        config = self.checkpoint.config
        for dialect in self.recipe.dialects:
            for profile in self.recipe.profiles:
                grid = self._grid(profile)
                yield _vision_key(profile, dialect), vision_graph(config.vision, grid, self.vision, dialect)
            for name, projector in self.projectors.items():
                yield _projector_key(name, dialect), projector_graph(config.projector, projector, dialect)
            for key, decoder in self.decoders.items():
                for slots in self.recipe.slots:
                    graph = decoder_graph(config.text, decoder.form(dialect, slots), decoder.weights)
                    yield _decoder_key(key, slots, dialect), graph

    def _grid(self, profile: str) -> Grid:
        size, patch = PROFILES[profile].size, self.checkpoint.config.vision.patch
        return Grid(rows=size.height // patch, columns=size.width // patch)

    def _profile(self, name: str) -> VisionProfile:
        profile = PROFILES[name]
        return VisionProfile(
            frames=profile.frames,
            rate_hz=profile.rate_hz,
            width=profile.size.width,
            height=profile.size.height,
            graphs={dialect: _vision_key(name, dialect) for dialect in self.recipe.dialects},
        )

    def _decoder_set(self, key: str) -> DecoderSet:
        graphs = tuple(
            DecoderGraph(dialect=dialect, slots=slots, graph=_decoder_key(key, slots, dialect))
            for slots in self.recipe.slots
            for dialect in self.recipe.dialects
        )
        return DecoderSet(graphs=graphs, lora_rank=self.decoders[key].lora_rank)

    def _adapter(self, name: str) -> AdapterEntry:
        decoder = self.decoder_of[name]
        return AdapterEntry(
            projector={dialect: _projector_key(name, dialect) for dialect in self.recipe.dialects},
            decoder=decoder,
            lora=lora_file(name) if self.decoders[decoder].lora_rank else None,
            tasks=tasks_of(name, self.projectors),
        )


def lora_file(adapter: str) -> str:
    """Path in the bundle of an adapter's LoRA matrices."""
    return f"{FOLDER}/lora.{adapter}.safetensors"


def _vision_key(profile: str, dialect: Dialect) -> str:
    return f"vision.{profile}.{dialect}"


def _projector_key(adapter: str, dialect: Dialect) -> str:
    return f"projector.{adapter}.{dialect}"


def _decoder_key(decoder: str, slots: int, dialect: Dialect) -> str:
    return f"decoder.{slots}.{dialect}" if decoder == BASE else f"decoder.{decoder}.{slots}.{dialect}"
