"""Training data for recovery: a clip's questions with the exact model's answers and next-token distributions.

The distributions are stored as the model's last normalised states, from which its head computes them again: a hidden
size per token instead of a vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.eager import embedding_rows
from edge_sdk.export.quantise.recovery.whole_decoder import LayerPairs, WholeDecoder
from edge_sdk.export.quantise.sequences import Sequence


@dataclass(frozen=True, eq=False)
class Lesson:
    """`tokens` with answers after the questions, and the exact `states [rows, hidden]` of every row of an answer.

    `lengths [questions]` int64 is the number of rows of each answer.
    """

    tokens: Sequence
    states: Tensor
    lengths: Tensor

    def save(self, path: Path) -> None:
        """Write the lesson to `path`."""
        held = {name: each for name, each in vars(self.tokens).items() if each is not None}
        save_file({**held, "states": self.states.contiguous(), "lengths": self.lengths}, path)

    @classmethod
    def load(cls, path: Path) -> Lesson:
        """Read what `save` has written."""
        held = load_file(path)
        states, lengths = held.pop("states"), held.pop("lengths")
        return cls(Sequence(**held), states, lengths)


class Teacher:
    """The exact model, all `weights` on `device`; answers end with one of `end` and have at most `most` tokens."""

    def __init__(self, weights: Weights, device: torch.device, end: tuple[int, ...], most: int) -> None:
        self._model, self._end, self._most = WholeDecoder(weights, device), end, most
        self._table = embedding_rows(weights, np.arange(weights.config.text.vocab))

    @torch.inference_mode()
    def lesson(self, asked: Sequence, lora: LayerPairs) -> Lesson:
        """The model's greedy answers, with `lora`, to the questions of `asked`, and the states of its distributions."""
        said = self._model.answer(asked, lora, self._table, self._end, self._most)
        tokens = asked.answered([self._table[ids[:-1]] for ids in said])
        lengths = torch.tensor([len(ids) for ids in said])
        return Lesson(tokens, self._model.states(tokens, lora).cpu(), lengths)
