"""A clip and its questions as one sequence: the pictures once, then every question with its answer as a branch.

A branch sees the prefix and itself, and counts its positions from the prefix's end. The device makes the same sequence
of a prefix and its answers, and one pass trains all of them. The loss is on the answers and their end token only, as in
CrashChat's training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_sdk.export.mini.material import Material
from edge_sdk.export.mini.model import Tower
from edge_sdk.export.mini.questions import Pair
from edge_sdk.export.mini.targets import frame_targets, moments, token_targets
from edge_sdk.export.mini.training import Batch
from edge_sdk.export.mini.windows import Shot
from edge_sdk.reasoning.prompt import Prompt, PromptFrame
from edge_sdk.reasoning.text import Tokenizer

# Marks a row without a target; torch's own value for it.
NO_TARGET = -100
_PADDING = -1


@dataclass(frozen=True, eq=False)
class Example:
    """One sequence of `n` tokens; `targets [n]` is what each row must say next, `NO_TARGET` where that is not learnt.

    Its `weights [n]` make every answer count the same, however long it is.

    `branches [n]`: 0 the prefix, then 1, 2, ...; `frame_ends`: rows of the last token of each frame; `patches` uint8
    `[frames, patches, 588]`. `dense`: what frames and tokens show, by the names of `frame_targets`, `token_targets` and
    `moments`.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    branches: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    frame_ends: NDArray[np.int64]
    patches: NDArray[np.uint8]
    dense: Mapping[str, NDArray[Any]]


class Writer:
    """Makes examples with one tokenizer for one tower."""

    def __init__(self, tokenizer: Tokenizer, tower: Tower) -> None:
        self._tokenizer, self._prompt = tokenizer, Prompt(tokenizer)
        self._grid, self._eye = tower.grid, tower.eye

    def prefix(self, stamps_s: Sequence[float]) -> NDArray[np.int64]:
        """Ids of header and frames, `[n]`; every token of a frame is kept."""
        frames = [PromptFrame(time_s=time_s, tokens=self._grid.tokens) for time_s in stamps_s]
        pieces = [self._prompt.frame(frame, first=index == 0) for index, frame in enumerate(frames)]
        return np.concatenate([self._prompt.header(), *pieces])

    @property
    def frame_tokens(self) -> int:
        """Number of tokens from one frame to the next, its time stamp included."""
        return len(self._prompt.frame(PromptFrame(time_s=0.2, tokens=self._grid.tokens), first=False))

    def question(self, text: str) -> NDArray[np.int64]:
        """Ids from the last frame to where the answer begins."""
        return self._prompt.question(text)

    def example(self, clip: Material, shot: Shot, pairs: Sequence[Pair]) -> Example:
        """Make the sequence of `shot` with `pairs` of questions and answers."""
        prefix = self.prefix(shot.stamps_s)
        image = prefix == self._tokenizer.control.image
        ids, positions = [prefix], [np.arange(len(prefix))]
        branches, targets = [np.zeros(len(prefix), np.int64)], [np.full(len(prefix), NO_TARGET)]
        weights = [np.zeros(len(prefix), np.float32)]
        for number, (question, answer) in enumerate(pairs, start=1):
            asked = self.question(question)
            said = np.append(self._tokenizer.encode(answer), self._tokenizer.control.im_end)
            ids.append(np.concatenate([asked, said[:-1]]))
            positions.append(len(prefix) + np.arange(len(ids[-1])))
            branches.append(np.full(len(ids[-1]), number))
            targets.append(np.concatenate([np.full(len(asked) - 1, NO_TARGET), said]))
            weights.append((targets[-1] != NO_TARGET).astype(np.float32) / len(said))
        return Example(
            ids=np.concatenate(ids),
            positions=np.concatenate(positions),
            branches=np.concatenate(branches),
            targets=np.concatenate(targets),
            weights=np.concatenate(weights),
            frame_ends=np.flatnonzero(image & ~np.append(image[1:], False)),
            patches=self._eye.patches(clip.pictures, shot.pictures, clip.view),
            dense={
                "moments": moments(clip, shot),
                **frame_targets(clip, shot.pictures, self._grid),
                **token_targets(clip, shot, self._grid),
            },
        )


def collate(examples: Sequence[Example]) -> Batch:
    """Batch sequences, padded to the longest; padding sees the prefix and itself, and no other row sees it."""
    longest = max(len(example.ids) for example in examples)

    def padded(name: str, fill: int) -> torch.Tensor:
        rows = [getattr(example, name) for example in examples]
        return torch.from_numpy(np.stack([np.pad(row, (0, longest - len(row)), constant_values=fill) for row in rows]))

    rest = ("frame_ends", "patches")
    stacked = {name: torch.from_numpy(np.stack([getattr(each, name) for each in examples])) for name in rest}
    dense = {name: torch.from_numpy(np.stack([each.dense[name] for each in examples])) for name in examples[0].dense}
    return {**stacked, **dense} | {
        "ids": padded("ids", 0),
        "positions": padded("positions", 0),
        "branches": padded("branches", _PADDING),
        "targets": padded("targets", NO_TARGET),
        "weights": padded("weights", 0),
    }


def branch_mask(branches: torch.Tensor) -> torch.Tensor:
    """The mask, bool `[batch, 1, n, n]`, of `branches [batch, n]`: a row sees earlier rows of prefix and own branch."""
    own = branches[:, :, None] == branches[:, None, :]
    trunk = (branches == 0)[:, None, :]
    before = torch.ones(branches.shape[1], branches.shape[1], dtype=torch.bool, device=branches.device).tril()
    return ((own | trunk) & before)[:, None]
