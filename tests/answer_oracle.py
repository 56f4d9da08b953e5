"""Every legal answer of a small clip scored one by one: what a reader that follows a few branches must agree with.

Written from what the forms are said to be, over lists of whole answers; no automaton, no tree, no search.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
from answer_driver import Model, Path

from edge_sdk.reasoning.text import Tokenizer

TEXT = frozenset("0123456789. -second")


def legal_times(first: int, last: int) -> dict[str, tuple[float, ...]]:
    """ "d.d seconds" for every tenth from `first` to `last`."""
    return {f"{t / 10:.1f} seconds": (t / 10,) for t in range(first, last + 1)}


def legal_intervals(first: int, last: int) -> dict[str, tuple[float, ...]]:
    """ "d.d - d.d seconds" for every pair of tenths that ends after it starts."""
    pairs = [(a, b) for a in range(first, last + 1) for b in range(a + 1, last + 1)]
    return {f"{a / 10:.1f} - {b / 10:.1f} seconds": (a / 10, b / 10) for a, b in pairs}


@dataclass
class Truth:
    """Probability of each answer, what greedy decoding says, and the share that legal tokens had on its way."""

    probability: dict[tuple[float, ...], float] = field(default_factory=lambda: defaultdict(float))
    greedy: str = ""
    share: float = 1.0

    def marginal(self, number: int) -> dict[float, float]:
        found: dict[float, float] = defaultdict(float)
        for times, mass in self.probability.items():
            found[times[number]] += mass
        return found

    def quantiles(self, number: int) -> tuple[float, float]:
        """The first time at which 10 %, and at which 90 %, is reached."""
        marginal = self.marginal(number)
        times = sorted(marginal)
        summed = np.cumsum([marginal[time] for time in times])
        return tuple(next(t for t, s in zip(times, summed, strict=True) if s >= q - 1e-9) for q in (0.1, 0.9))  # type: ignore[return-value]


class Oracle:
    def __init__(self, tokenizer: Tokenizer, legal: dict[str, tuple[float, ...]], model: Model) -> None:
        self.tokenizer, self.legal, self.model = tokenizer, legal, model
        self.spelled = {text: tuple(tokenizer.encode(text).tolist()) for text in legal}
        pieces = {token: tokenizer.token_bytes(token) for token in range(tokenizer.size)}
        self.pieces = {t: p.decode() for t, p in pieces.items() if p and TEXT.issuperset(p.decode("latin-1"))}

    def truth(self) -> Truth:
        found = Truth()
        self._follow((), list(self.legal), 1.0, True, found)
        return found

    def _follow(self, path: Path, left: list[str], mass: float, greedy: bool, found: Truth) -> None:
        said = "".join(self.pieces[token] for token in path)
        if path and len(left) == 1:
            found.probability[self.legal[left[0]]] += mass
            if greedy:
                found.greedy = left[0]
            return
        logits = self.model(path).astype(np.float64)
        options = {}
        for token, piece in sorted(self.pieces.items()):
            going = [text for text in left if text.startswith(said + piece)]
            if going:
                options[token] = going
        weights = np.exp([logits[token] - logits.max() for token in options])
        if greedy:
            found.share *= float(weights.sum() / np.exp(logits - logits.max()).sum())
        best = int(np.argmax(weights))
        for index, (token, going) in enumerate(options.items()):
            longer = self._certain((*path, token), going)
            share = float(weights[index] / weights.sum())
            self._follow(longer, going, mass * share, greedy and index == best, found)

    def _certain(self, path: Path, going: Sequence[str]) -> Path:
        """`path` and the tokens that every legal answer goes on with, in the tokenizer's own spelling."""
        forced = _shared(going)
        spelled = [self.spelled[text] for text in going]
        if any(each[: len(path)] != path for each in spelled):
            return path
        common = spelled[0][: _shared(spelled)]
        while len("".join(self.pieces[token] for token in common)) > forced:
            common = common[:-1]
        return max(path, tuple(common), key=len)


def _shared(sequences: Sequence[Sequence[object]]) -> int:
    """How many places from the beginning all sequences have alike."""
    return sum(1 for _ in takewhile(lambda place: len(set(place)) == 1, zip(*sequences, strict=False)))
