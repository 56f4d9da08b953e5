"""Greedy answers of a decoder to the questions of clips; they extend the probes, so that models are compared on them.

A layer's weights are read once per token for all clips. States and caches are on the disk, for each clip and adapter
4·(hidden + 2·layers·kv_heads·head_dim) bytes per token; the answers are a few rows and stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.device import CPU
from edge_sdk.export.eager import embedding_rows, empty_layer_cache, head_logits, lora_pairs
from edge_sdk.export.graphs.decoder import DecoderLayer, Pair, TextStep, text_rope
from edge_sdk.export.graphs.loading import load
from edge_sdk.export.quantise.collect import Source
from edge_sdk.export.quantise.sequences import Sequence

# Few, because every answer token reads all layers once; the first tokens tell whether there is a crash, or when.
ANSWER_TOKENS = 8


@dataclass(frozen=True, eq=False)
class Asked:
    """Questions of a sequence: each row's `branch [n]`, each question's last row and its position `[questions]`."""

    branch: Tensor
    ends: Tensor
    positions: Tensor

    @classmethod
    def of(cls, sequence: Sequence) -> Asked:
        """Find the questions of `sequence`, which lies on the CPU."""
        numbers = range(1, int(sequence.branch.max()) + 1)
        ends = torch.tensor([int(torch.nonzero(sequence.branch == number)[-1]) for number in numbers])
        return cls(sequence.branch, ends, sequence.positions[ends])

    def feeds(self, rows: Tensor, step: int) -> dict[str, Tensor]:
        """The call for token number `step`, from 1, of every answer, with `rows [1, questions, hidden]`."""
        count, questions = len(self.branch), len(self.ends)
        own = torch.arange(1, questions + 1)[:, None]
        asked = (self.branch == 0) | (self.branch == own)
        return {
            "embeds": rows,
            "position_ids": (self.positions + step)[None],
            "mask": torch.cat([asked, torch.eye(questions, dtype=torch.bool).repeat(1, step)], 1)[None, None],
            "write_index": torch.tensor([count + (step - 1) * questions]),
        }


class Answering:
    """Answers of `weights` to the questions of `sources`, each at most `count` tokens and ending with one of `end`.

    Layers compute on `device`.
    """

    def __init__(
        self,
        weights: Weights,
        sources: Mapping[str, Source],
        end: Collection[int],
        count: int = ANSWER_TOKENS,
        device: torch.device = CPU,
    ) -> None:
        self._weights, self._sources, self._end, self._count = weights, sources, end, count
        self._text, self._device = weights.config.text, device
        cos, sin = text_rope(self._text)
        self._rope = (cos.to(device), sin.to(device))
        self._on_layer: Callable[[int, int], None] = lambda done, total: None
        self._done = 0
        self._asked: dict[str, Asked] = {}
        self._new: dict[tuple[str, int], Pair] = {}

    @torch.inference_mode()
    def write(self, folder: Path, work: Path, on_layer: Callable[[int, int], None] | None = None) -> None:
        """Write every source's sequence with its answers, `NAME.safetensors` in `folder`; `work` is an empty folder.

        `on_layer` gets the number of layers read and the number in all.
        """
        self._on_layer, self._done = on_layer or self._on_layer, 0
        said = {name: [ids] for name, ids in self._tokens(self._first(work)).items()}
        for step in range(1, self._count):
            given = {name: self._embeds(ids[-1])[None] for name, ids in said.items()}
            for name, ids in self._tokens(self._next(given, step, work)).items():
                said[name].append(ids)
        for name, source in self._sources.items():
            answers = [self._cut(each) for each in torch.stack(said[name], 1)]
            rows = [self._embeds(each[:-1]) for each in answers]
            Sequence.load(source.path).answered(rows).save(folder / f"{name}.safetensors")

    def _first(self, work: Path) -> dict[str, Tensor]:
        """The last row of every question after the last layer; the layers' caches are left in `work`."""
        found: dict[str, Tensor] = {}
        device = self._device
        for layer in range(self._text.layers):
            module = self._module(layer)
            for name, source in self._sources.items():
                sequence = Sequence.load(source.path)
                self._asked[name] = Asked.of(sequence)
                sequence = sequence.to(device)
                state = load_file(work / name)["state"].to(device) if layer else sequence.embeds[None]
                step = TextStep.of(sequence.call([]).feeds, self._rope, "native")
                past = empty_layer_cache(self._text, len(sequence.embeds), device)
                state, kept = module(state, step, past, lora_pairs(source.adapter, layer, device))
                save_file({"state": state.cpu().contiguous()}, work / name)
                save_file({"key": kept[0].cpu(), "value": kept[1].cpu()}, _cache(work, name, layer))
                found[name] = state[0, self._asked[name].ends.to(device)]
            self._tell()
        return found

    def _next(self, given: Mapping[str, Tensor], step: int, work: Path) -> dict[str, Tensor]:
        """As `_first`, for token number `step` of every answer, `[1, questions, hidden]` in `given`."""
        states, device = {name: rows.to(self._device) for name, rows in given.items()}, self._device
        for layer in range(self._text.layers):
            module = self._module(layer)
            for name, source in self._sources.items():
                asked = self._asked[name]
                feeds = {key: each.to(device) for key, each in asked.feeds(states[name], step).items()}
                call = TextStep.of(feeds, self._rope, "native")
                past, lora = self._past(name, layer, work), lora_pairs(source.adapter, layer, device)
                states[name], kept = module(states[name], call, past, lora)
                begin = len(asked.branch)
                self._new[name, layer] = kept[0][:, :, begin:].clone(), kept[1][:, :, begin:].clone()
            self._tell()
        return {name: state[0] for name, state in states.items()}

    def _past(self, name: str, layer: int, work: Path) -> Pair:
        """A layer's cache, with room for one more token of every answer."""
        held = load_file(_cache(work, name, layer))
        room = empty_layer_cache(self._text, len(self._asked[name].ends), self._device)
        empty = empty_layer_cache(self._text, 0, self._device)
        kept = (held["key"].to(self._device), held["value"].to(self._device))
        parts = zip(kept, self._new.get((name, layer), empty), room, strict=True)
        key, value = (torch.cat(each, 2) for each in parts)
        return key, value

    def _tokens(self, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The most likely next tokens `[questions]` after `states [questions, hidden]`."""
        norm = load(self._weights, "decoder.norm.", partial(nn.RMSNorm, self._text.hidden, self._text.eps)).to(
            self._device
        )
        logits = head_logits(self._weights, [norm(state) for state in states.values()])
        return {name: each.argmax(1).cpu() for name, each in zip(states, logits, strict=True)}

    def _cut(self, ids: Tensor) -> Tensor:
        """Cut an answer after its first end token."""
        ends = [place for place, token in enumerate(ids.tolist()) if token in self._end]
        return ids[: ends[0] + 1] if ends else ids

    def _embeds(self, ids: Tensor) -> Tensor:
        return embedding_rows(self._weights, ids.numpy())

    def _module(self, layer: int) -> DecoderLayer:
        return load(self._weights, f"decoder.layers.{layer}.", partial(DecoderLayer, self._text)).to(self._device)

    def _tell(self) -> None:
        self._done += 1
        self._on_layer(self._done, self._count * self._text.layers)


def _cache(work: Path, name: str, layer: int) -> Path:
    return work / f"{name}.{layer:02}"
