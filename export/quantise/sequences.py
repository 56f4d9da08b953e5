"""Sequences to calibrate on, as files: the decoder's inputs for one clip, with all questions after one prefix.

Each question is a branch that attends the prefix and itself, so that a clip is computed once for all questions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from edge_sdk.export.eager import Call
from edge_sdk.export.graphs.decoder import Pair


@dataclass(frozen=True, eq=False)
class Sequence:
    """`embeds [n, hidden]` float32, `positions [n]` and `branch [n]` int64: 0 for the prefix, 1, 2 ... for questions.

    `rows` are the rows that predict the tokens of answers; None where questions have no answers.
    """

    embeds: Tensor
    positions: Tensor
    branch: Tensor
    rows: Tensor | None = None

    @classmethod
    def of(cls, prefix: Tensor, questions: list[Tensor]) -> Sequence:
        """Join the prefix `[n, hidden]` and each question's rows `[m, hidden]`, at the positions after the prefix."""
        parts = [prefix, *questions]
        begin = [0, *(len(prefix) for _ in questions)]
        return cls(
            embeds=torch.cat(parts),
            positions=torch.cat([torch.arange(len(part)) + at for part, at in zip(parts, begin, strict=True)]),
            branch=torch.cat([torch.full((len(part),), number) for number, part in enumerate(parts)]),
        )

    def with_rows(self, places: Tensor, rows: Tensor) -> Sequence:
        """A copy with `rows [k, hidden]` at `places [k]`, such as the outputs of another vision tower."""
        return replace(self, embeds=self.embeds.index_copy(0, places, rows))

    def answered(self, answers: list[Tensor]) -> Sequence:
        """A copy with an answer's rows `[m, hidden]` after each question: all of the answer's tokens but the last."""
        parts = [self.embeds[self.branch == number] for number in range(len(answers) + 1)]
        asked = [torch.cat(each) for each in zip(parts[1:], answers, strict=True)]
        found = Sequence.of(parts[0], asked)
        ends = [torch.nonzero(found.branch == number)[-1 - len(each) :, 0] for number, each in enumerate(answers, 1)]
        return replace(found, rows=torch.cat(ends))

    def save(self, path: Path) -> None:
        """Write the sequence to `path`."""
        save_file({name: tensor for name, tensor in vars(self).items() if tensor is not None}, path)

    @classmethod
    def load(cls, path: Path) -> Sequence:
        """Read what `save` has written."""
        return cls(**load_file(path))

    def to(self, device: torch.device) -> Sequence:
        """A copy on `device`."""
        rows = None if self.rows is None else self.rows.to(device)
        return Sequence(self.embeds.to(device), self.positions.to(device), self.branch.to(device), rows)

    def call(self, past: list[Pair]) -> Call:
        """The whole sequence as one call of the decoder, whose cache `past` has as many slots as there are rows."""
        count, device = len(self.embeds), self.embeds.device
        earlier = torch.ones(count, count, dtype=torch.bool, device=device).tril()
        mask = earlier & ((self.branch == 0) | (self.branch == self.branch[:, None]))
        feeds = {
            "embeds": self.embeds[None],
            "position_ids": self.positions[None],
            "mask": mask[None, None],
            "write_index": torch.tensor([0], device=device),
            "rows": torch.tensor([count - 1], device=device),
        }
        return Call(feeds, past)
