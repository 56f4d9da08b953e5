"""Parity with transformers from pixels to tokens, in every form that a bundle may have, as rows of one table.

transformers' own model answers first, with its own mask of dropped tokens, and is let go of before any graph is opened:
a model of the 7B's widths takes 2 GB for two layers, and so does a session. As a script it writes the table:
`python tests/parity_cases.py OUT tiny tied 2b 7b`.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import torch
from checkpoint_makers import save, save_adapter, tiny_model, tune, wide_model
from decoder_loop import Loop, lively
from measured import table, write_measured
from ort_graphs import Exported
from torch import Tensor

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.bundle.manifest_language import Compression
from edge_sdk.export.adapters import Adapter, Merged
from edge_sdk.export.checkpoint import Checkpoint, Weights
from edge_sdk.export.graphs.decoder_io import DecoderForm
from edge_sdk.export.graphs.lora import lora_inputs
from edge_sdk.export.graphs.vision import Grid
from edge_sdk.reasoning.patches import kept_tokens
from edge_sdk.runtime import Array, Feeds
from edge_sdk.types import Dialect

DIALECTS: tuple[Dialect, ...] = ("native", "decomposed")
GRID, FRAMES, SLOTS, CHUNK, TOKENS, RANK = Grid(rows=4, columns=6), 4, 112, 7, 32, 4


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One way through the graphs: the largest error of a logit, and of how many greedy tokens each is the same."""

    model: str
    dialect: Dialect
    decoder: str
    compression: bool
    streamed: bool
    prompt_tokens: int
    max_logit: float
    max_error: float
    same_tokens: int


@dataclass(frozen=True)
class Clip:
    """Frames that hardly change, as transformers takes them and as the graphs do."""

    inputs: dict[str, Tensor]
    patches: Array
    kept: Array
    video_token: int


@dataclass(frozen=True)
class Answer:
    """transformers' logits `[n, vocab]` for a clip, and its greedy tokens behind it."""

    clip: Clip
    logits: Array
    tokens: list[int]


def parity_rows(name: str, folder: Path) -> Iterator[Row]:
    """All rows of the model `name`: tiny, tied, 2b or 7b."""
    answers = _answers(name, folder)
    gc.collect()
    base, adapter = Checkpoint.open(folder / "base"), Adapter.open(folder / "adapter")
    for decoder in ("base", "merged", "switchable"):
        weights: Weights = base if decoder == "base" else Merged(base, adapter)
        switchable = decoder == "switchable"
        graphs = Exported(weights, _made(folder / f"graphs.{decoder}"))
        shared = Exported(base, _made(folder / f"graphs.{decoder}.decoder")) if switchable else graphs
        for dialect in DIALECTS:
            form = DecoderForm(dialect=dialect, slots=SLOTS, lora_rank=RANK if switchable else 0)
            lora = {n: v.numpy() for n, v in lora_inputs(adapter, base.config.text, form)} if switchable else {}
            chain = _Chain(graphs, shared, form, lora)
            for compression in (False, True):
                answer = answers["base" if decoder == "base" else "tuned", compression]
                for streamed in (False, True):
                    logits, tokens = chain.run(answer.clip, streamed)
                    yield Row(
                        model=name,
                        dialect=dialect,
                        decoder=decoder,
                        compression=compression,
                        streamed=streamed,
                        prompt_tokens=len(logits),
                        max_logit=float(np.abs(answer.logits).max()),
                        max_error=float(np.abs(logits - answer.logits).max()),
                        same_tokens=sum(a == b for a, b in zip(tokens, answer.tokens, strict=True)),
                    )
            del chain
            gc.collect()
        for weight_file in folder.glob("*/*.weights"):
            weight_file.unlink()


def make_clip(config: Any, compression: bool) -> Clip:
    """`FRAMES` frames, of which the second changes in two windows and the last not at all, between random words."""
    generator = torch.Generator().manual_seed(2)
    pixels = torch.rand(FRAMES, GRID.patches, 588, generator=generator) * 2 - 1
    pixels[1, 4:], pixels[1, 16:20] = pixels[0, 4:], -pixels[0, 16:20]
    pixels[3] = pixels[2]
    patches = {
        "pixel_values_videos": pixels.flatten(0, 1),
        "video_grid_thw": torch.tensor([[FRAMES, GRID.rows, GRID.columns]]),
        "video_merge_sizes": torch.tensor([2]),
    }
    mask = torch.ones(FRAMES, GRID.tokens, dtype=torch.bool)
    if compression:
        # All of the first frame, two changed windows, all of the third frame, and the one that must stay.
        mask[1], mask[3] = torch.tensor([True, False, False, False, True, False]), torch.arange(GRID.tokens) == 0
    mask = mask.flatten()
    ids = [torch.randint(config.video_token_id - 1, (3,), generator=generator)]
    for kept in mask.view(FRAMES, -1).sum(1).tolist():
        ids += [torch.randint(config.video_token_id - 1, (2,), generator=generator)]
        ids += [torch.full((kept,), config.video_token_id)]
    ids += [torch.randint(config.video_token_id - 1, (5,), generator=generator)]
    inputs = {**patches, "input_ids": torch.cat(ids)[None], "video_compression_mask": mask}
    kept_here = kept_tokens(pixels.numpy(), Compression() if compression else None)
    return Clip(inputs, pixels.numpy(), kept_here, config.video_token_id)


def _model(name: str) -> Any:
    return wide_model(name) if name in ("2b", "7b") else lively(tiny_model(tied=name == "tied", seed=2))


def _answers(name: str, folder: Path) -> dict[tuple[str, bool], Answer]:
    """What transformers says of the base and of the tuned model; both lie in `folder` then."""
    model = _model(name)
    save(model, folder / "base")
    found = {("base", each): _answer(model, make_clip(model.config, each)) for each in (False, True)}
    tuned = tune(model, rank=RANK)
    del model
    save_adapter(tuned, folder / "adapter")
    merged = tuned.merge_and_unload()
    return found | {("tuned", each): _answer(merged, make_clip(merged.config, each)) for each in (False, True)}


@torch.inference_mode()
def _answer(model: Any, clip: Clip) -> Answer:
    logits = model(**clip.inputs).logits[0].numpy()
    settings = {"max_new_tokens": TOKENS, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    generated = model.generate(**clip.inputs, **settings)[0, len(logits) :]
    return Answer(clip, logits, [int(token) for token in generated])


class _Chain:
    """The graphs of one form, opened: vision and projector, the kept tokens between embedded words, the decoder."""

    def __init__(self, graphs: Exported, shared: Exported, form: DecoderForm, lora: dict[str, Array]) -> None:
        self._vision, _ = graphs.open(graphs.vision(GRID, form.dialect))
        self._projector, _ = graphs.open(graphs.projector(form.dialect))
        decoder, entry = shared.open(shared.decoder(form))
        self._decoder = _Fed(decoder.bind_state(entry.state, {}), lora)
        self._table = graphs.weights.tensor("decoder.embed_tokens.weight").float().numpy()

    def run(self, clip: Clip, streamed: bool) -> tuple[Array, list[int]]:
        """Logits of the whole prompt, and the greedy tokens: frame by frame and in chunks, or all at once."""
        embeds = self._embeds(clip, streamed)
        loop = Loop(self._decoder, SLOTS, CHUNK if streamed else len(embeds))
        logits = loop.extend(embeds)
        # Behind a whole prompt tokens come one by one; in chunks each is padded to the chunk.
        loop.width = loop.width if streamed else 1
        tokens = [int(logits[-1].argmax())]
        while len(tokens) < TOKENS:
            tokens.append(int(loop.extend(self._table[tokens[-1:]])[-1].argmax()))
        return logits, tokens

    def _embeds(self, clip: Clip, streamed: bool) -> Array:
        groups = np.split(clip.patches, FRAMES) if streamed else [clip.patches]
        seen = np.concatenate([self._vision.run({"patches": group})["tokens"] for group in groups])
        visual = self._projector.run({"tokens": seen[clip.kept]})["embeds"]
        ids = clip.inputs["input_ids"][0].numpy()
        embeds = self._table[ids]
        embeds[ids == clip.video_token] = visual
        return embeds


@dataclass(frozen=True)
class _Fed:
    """A bound decoder with LoRA inputs that are the same in every call."""

    bound: Any
    lora: dict[str, Array]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        found: dict[str, Array] = self.bound.run({**feeds, **self.lora})
        return found


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main(out: Path, names: list[str]) -> None:
    """Write `parity.json` and `parity.md` to `out` for the models `names`."""
    watch, rows = Watch(), []
    for name in names:
        with TemporaryDirectory() as folder:
            for row in parity_rows(name, Path(folder)):
                rows.append(row)
                print(row, flush=True)
    what = "Logits and greedy tokens of the exported graphs against transformers, float32, ONNX Runtime"
    write_measured(out, "parity", what, watch, rows, [NOTE, "", *table(HEAD, map(_cells, rows))])


HEAD = "model | decoder | dialect | compression | given | prompt tokens | largest logit | largest error | tokens"
NOTE = """`2b` and `7b`: the true widths, two layers in tower and decoder, 4,096 words. `tied`: the tiny one with a tied
head. `merged`, `switchable`: rank 4 on all linears of the decoder and a tuned projector, against peft's own merge.
`streamed`: frame by frame, then in chunks of 7 tokens, the last one padded; `whole`: all at once. Compression: tokens
that transformers' own mask drops are left out, so that the prompt is shorter. Tokens: how many greedy ones agree."""


def _cells(row: Row) -> tuple[object, ...]:
    return (
        row.model,
        row.decoder,
        row.dialect,
        "on" if row.compression else "off",
        "streamed" if row.streamed else "whole",
        row.prompt_tokens,
        f"{row.max_logit:.1f}",
        f"{row.max_error:.1e}",
        f"{row.same_tokens} of {TOKENS}",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
