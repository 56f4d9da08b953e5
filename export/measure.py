"""Compute the expected outputs of every graph of an export from the checkpoint, in float32.

Inputs are seeded and close to what the model meets in use. Their values fit float16, so that one case serves graphs of
either type. A model's mathematics does not depend on dialect or slots, so each case is computed once for all graphs of
its part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_sdk.bundle.manifest_language import DecoderSet, VisionProfile
from edge_sdk.errors import CheckpointError, ConfigError
from edge_sdk.export.adapters import Adapter, Merged
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.eager import Line, decode, embedding_rows, encode, project
from edge_sdk.export.exported import Exported
from edge_sdk.export.graphs.vision import Grid
from edge_sdk.export.seeded_cases import Values, answer_case, decoder_call, decoder_values, moving_squares
from edge_sdk.reasoning.patches import kept_tokens, normalised
from edge_sdk.reasoning.prompt import Prompt, PromptFrame
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.runtime import Array
from edge_sdk.verify.reference_files import ChainCase

# (done, total, what): layers computed, layers in all, and the part of the model.
OnProgress = Callable[[int, int, str], None]

FRAMES, PROJECTED = 2, 16
_STEPS, _LARGE_STEPS, _LARGE = 8, 4, 4_000_000_000


@dataclass(frozen=True, eq=False)
class Answer:
    """A clip of `profile`, its prompt and answer, and the whole logits `[steps, vocab]`, float32."""

    profile: str
    case: ChainCase
    logits: Array


@dataclass(frozen=True, eq=False)
class Measured:
    """Values of every graph of the language component, and each adapter's answer."""

    graphs: dict[str, Values]
    answers: dict[str, Answer]


def measure(
    weights: Weights,
    exported: Exported,
    seed: int,
    on_progress: OnProgress,
    answers: Mapping[str, NDArray[np.int64]] | None = None,
) -> Measured:
    """Compute everything, a layer in memory at a time.

    `answers` are tokens that adapters are fed step by step, instead of their own answers. Raises `CheckpointError` for
    a tensor with NaN or infinity, and for a vocabulary that lacks a token of the prompt.
    """
    return _Measurement(weights, exported, seed, on_progress, answers or {}).run()


def adapter_weights(weights: Weights, exported: Exported, name: str) -> Weights:
    """Weights of the adapter `name`: its own model, the checkpoint with the adapter merged, or the checkpoint."""
    if name in exported.models:
        return exported.models[name]
    adapter = exported.adapters.get(name)
    return Merged(weights, adapter) if adapter else weights


class _Measurement:
    def __init__(
        self,
        weights: Weights,
        exported: Exported,
        seed: int,
        on_progress: OnProgress,
        answers: Mapping[str, NDArray[np.int64]],
    ) -> None:
        self._weights, self._exported, self._language = weights, exported, exported.language
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._forced, self._on_progress = answers, on_progress
        self._steps = _LARGE_STEPS if self._language.decoder.weights > _LARGE else _STEPS
        self._profile = next(iter(self._language.profiles))
        self._graphs: dict[str, Values] = {}
        self._answers: dict[str, Answer] = {}
        self._done = 0

    def run(self) -> Measured:
        """Compute part by part, in the order in which data flows."""
        clip = self._clip(self._language.profiles[self._profile], FRAMES)
        patches = normalised(clip, self._language.pixel_mean, self._language.pixel_std)
        tokens = self._vision(patches)
        keep = kept_tokens(patches, self._language.compression)
        ids = self._prompts(keep)
        images = self._projectors(tokens.flatten(0, 1), tokens[torch.from_numpy(keep)])
        embeds = {name: self._embeds(ids[name], images[name]) for name in ids}
        for name, decoder in self._language.decoders.items():
            for adapter, logits in self._decoder(name, decoder, embeds).items():
                case = answer_case(clip, ids[adapter], logits, self._forced.get(adapter))
                self._answers[adapter] = Answer(self._profile, case, logits)
        return Measured(self._graphs, self._answers)

    @cached_property
    def _total(self) -> int:
        passes = self._steps * len(self._language.decoders)
        return self._language.vision.layers + passes * self._language.decoder.layers

    def _layer(self, what: str) -> None:
        self._done += 1
        self._on_progress(self._done, self._total, what)

    def _clip(self, profile: VisionProfile, frames: int) -> NDArray[np.uint8]:
        return moving_squares(self._random, profile, frames, self._language.patch)

    def _vision(self, patches: NDArray[np.float32]) -> Tensor:
        """Values of every profile's graphs; tokens `[frames, tokens, width]` of the clip `patches`."""
        profiles = self._language.profiles
        mean, std = self._language.pixel_mean, self._language.pixel_std
        alone = {name: normalised(self._clip(each, 1), mean, std).astype(np.float16) for name, each in profiles.items()}
        jobs = [(self._grid(profiles[name]), _tensor(given)) for name, given in alone.items()]
        jobs.append((self._grid(profiles[self._profile]), torch.from_numpy(patches)))
        *found, clip = encode(self._weights, jobs, lambda: self._layer("vision"))
        for (name, given), tokens in zip(alone.items(), found, strict=True):
            for graph in profiles[name].graphs.values():
                self._graphs[graph] = Values({"patches": given}, {"tokens": tokens.numpy()})
        return clip

    def _grid(self, profile: VisionProfile) -> Grid:
        return Grid(rows=profile.height // self._language.patch, columns=profile.width // self._language.patch)

    def _projectors(self, tokens: Tensor, kept: Tensor) -> dict[str, Tensor]:
        """Record every projector's values for a sample of `tokens [n, width]`; each adapter's rows for `kept`."""
        given = tokens[torch.from_numpy(self._random.permutation(len(tokens))[:PROJECTED])].numpy().astype(np.float16)
        rows: dict[str, Tensor] = {}
        for name, adapter in self._language.adapters.items():
            weights = adapter_weights(self._weights, self._exported, name)
            found, rows[name] = project(weights, [_tensor(given), kept])
            for graph in adapter.projector.values():
                self._graphs[graph] = Values({"tokens": given}, {"embeds": found.numpy()})
        return rows

    def _prompts(self, keep: NDArray[np.bool_]) -> dict[str, NDArray[np.int64]]:
        """The prompt of each adapter, the clip followed by its first question, as ids `[n]`."""
        language, folder = self._language, self._exported.folder
        prompt = Prompt(Tokenizer.open(folder / language.tokenizer))
        asked = json.loads((folder / language.prompts).read_text(encoding="utf-8"))
        rate_hz = language.profiles[self._profile].rate_hz
        frames = [PromptFrame(time_s=index / rate_hz, tokens=int(kept.sum())) for index, kept in enumerate(keep)]
        begin = [prompt.header(), *(prompt.frame(frame, first=frame.time_s == 0) for frame in frames)]
        return {
            name: np.concatenate([*begin, np.array(asked[adapter.tasks[0]]["ids"], np.int64)])
            for name, adapter in language.adapters.items()
        }

    def _embeds(self, ids: NDArray[np.int64], images: Tensor) -> Tensor:
        vocab = self._weights.config.text.vocab
        if ids.max() >= vocab:
            raise CheckpointError(
                f"expected a vocabulary with every token of the prompt (up to {ids.max()}), found one of {vocab}; "
                "give the tokenizer that belongs to the checkpoint"
            )
        embeds = embedding_rows(self._weights, ids)
        embeds[torch.from_numpy(ids == self._language.image_token)] = images
        return embeds

    def _decoder(self, name: str, decoder: DecoderSet, embeds: Mapping[str, Tensor]) -> dict[str, Array]:
        """Record the values of one decoder's graphs; logits `[steps, vocab]` of the adapters that use the decoder."""
        users = [user for user, adapter in self._language.adapters.items() if adapter.decoder == name]
        weights, switched = self._switched(name, users, decoder)
        config = weights.config.text
        shown = next((user for user in users if switched[user]), users[0])
        case = decoder_call(self._random, self._weights, switched[shown])
        lines = {user: Line(config, len(embeds[user]) + self._steps, switched[user]) for user in users}
        calls = [lines[user].call(embeds[user]) for user in users]
        first, *found = decode(weights, [case, *calls], lambda: self._layer(f"decoder {name}"))
        for entry in decoder.graphs:
            lora = self._language.adapters[shown].lora
            self._graphs[entry.graph] = decoder_values(self._exported.graphs[entry.graph], case, first, lora)
        logits = {user: [rows[0]] for user, rows in zip(users, found, strict=True)}
        for step in range(1, self._steps):
            tokens = {user: self._token(user, step - 1, logits[user][-1]) for user in users}
            calls = [lines[user].call(embedding_rows(weights, tokens[user])) for user in users]
            for user, rows in zip(users, decode(weights, calls, lambda: self._layer(f"decoder {name}")), strict=True):
                logits[user].append(rows[0])
        return {user: torch.stack(rows).numpy() for user, rows in logits.items()}

    def _switched(self, name: str, users: list[str], decoder: DecoderSet) -> tuple[Weights, dict[str, Adapter | None]]:
        """The weights of a decoder, and for each of its users the LoRA adapter applied beside them, if any."""
        if not users:
            raise ConfigError(f"decoder {name!r}: expected an adapter that uses it, found none")
        if decoder.lora_rank:
            return self._weights, {user: self._exported.adapters.get(user) for user in users}
        if len(users) != 1:
            raise ConfigError(f"decoder {name!r} has no LoRA inputs: expected one adapter that uses it, found {users}")
        return adapter_weights(self._weights, self._exported, users[0]), {users[0]: None}

    def _token(self, user: str, step: int, logits: Tensor) -> NDArray[np.int64]:
        forced = self._forced.get(user)
        return np.array([int(logits.argmax()) if forced is None else forced[step]], np.int64)


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(values).float()
