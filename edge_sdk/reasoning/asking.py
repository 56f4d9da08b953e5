"""Answer several questions together: each decoder step takes the growths of every unfinished answer.

The questions are the first growth, so an answer that needs no token of its own is complete before anything is decoded.
A complete answer drops out, which makes the remaining steps shorter; their number does not grow.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from edge_sdk.reasoning.answer import Answer, AnswerReader, Growth
from edge_sdk.reasoning.cache.prefix import Addition, Grown, Prefix
from edge_sdk.reasoning.cache.slots import TRUNK
from edge_sdk.reasoning.embedding import EmbeddingTable
from edge_sdk.reasoning.text import Ids
from edge_sdk.reasoning.times import Stopwatch
from edge_sdk.runtime import Array
from edge_sdk.types import Value

Spoken = Generator["Piece | Answer", None, None]


class Piece(Value, frozen=True, kw_only=True):
    """A piece of an answer's text that has just become final."""

    task: str
    text: str


@dataclass(eq=False)
class Branch:
    """One question and its answer so far; `nodes[i]` is the cache node of the reader's leaf i."""

    prefix: Prefix
    reader: AnswerReader
    question: Ids
    task: str
    nodes: list[int] = field(default_factory=list)
    logits: dict[int, Array] = field(default_factory=dict)
    awaited: int = 1


@dataclass(frozen=True, eq=False)
class _Part:
    """One addition of a step, and the branch it belongs to."""

    branch: Branch
    addition: Addition


class Conversation:
    """Asks `branches` together. `expired` returns whether there is no time for another call."""

    def __init__(
        self, branches: Sequence[Branch], table: EmbeddingTable, expired: Callable[[], bool], watch: Stopwatch
    ) -> None:
        self._table, self._expired, self._watch = table, expired, watch
        self._open = list(branches)
        self._step = [_Part(branch, Addition(TRUNK, table.rows(branch.question))) for branch in branches]
        self._decoding = False
        self.steps = 0

    def speak(self) -> Spoken:
        """Yield answers as they complete and free text as it comes; when time runs out, the rest as they stand."""
        while self._step and not self._expired():
            step, self._step = self._step, []
            for prefix, parts in groupby(step, lambda part: part.branch.prefix):
                yield from self._grow(prefix, _fitting(prefix, list(parts)))
            self._decoding = True
        yield from (branch.reader.answer() for branch in self._open)

    def _grow(self, prefix: Prefix, parts: Sequence[_Part]) -> Spoken:
        calls, phases = prefix.calls, ("decode",) if self._decoding else ("prefill", "questions")
        with closing(prefix.growing([part.addition for part in parts])) as growing:
            while not self._expired():
                with self._watch.running(*phases):
                    grown = next(growing, None)
                if grown is None:
                    break
                with self._watch.running("decode"):
                    said = self._take(parts[grown.place].branch, grown)
                yield from said
            if self._decoding:
                self.steps += prefix.calls - calls

    def _take(self, branch: Branch, grown: Grown) -> list[Piece | Answer]:
        """Store the logits of one leaf of a branch; once all of the step's leaves have arrived, let the reader read."""
        branch.logits[len(branch.nodes)] = grown.logits
        branch.nodes.append(grown.node)
        if len(branch.logits) < branch.awaited:
            return []
        growths = branch.reader.read(branch.logits)
        branch.logits, branch.awaited = {}, len(growths)
        self._step += [_Part(branch, self._addition(branch, growth)) for growth in growths]
        text = branch.reader.pieces()
        said: list[Piece | Answer] = [Piece(task=branch.task, text=text)] if text else []
        if not growths:
            self._open.remove(branch)
            said.append(branch.reader.answer())
        return said

    def _addition(self, branch: Branch, growth: Growth) -> Addition:
        return Addition(branch.nodes[growth.leaf], self._table.rows(np.array(growth.tokens, np.int64)))


def _fitting(prefix: Prefix, parts: Sequence[_Part]) -> list[_Part]:
    """Return the parts of the branches that fit, in order; the answers of the other branches grow no further."""
    left, kept = prefix.free, list[_Part]()
    for _, group in groupby(parts, lambda part: id(part.branch)):
        own = list(group)
        needed = sum(len(part.addition.embeds) for part in own)
        if needed <= left:
            left, kept = left - needed, kept + own
    return kept
