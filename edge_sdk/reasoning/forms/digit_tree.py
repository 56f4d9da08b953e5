"""The tree of tokens that spell a time: which branch is the answer, and which others are worth decoding with it.

Greedy decoding is one path down the tree. A decoding step has room for more tokens than this path needs, so the
likeliest other branches are decoded too. They reveal more of the model's distribution without reading its weights
again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from edge_sdk.reasoning.answer import Floats
from edge_sdk.reasoning.forms.distribution import Belief, Masses, marginals
from edge_sdk.reasoning.forms.grammar import START, Grammar, State
from edge_sdk.reasoning.forms.joint import JointBelief, joint
from edge_sdk.reasoning.forms.scores import Scores
from edge_sdk.reasoning.forms.spelling import Spelling
from edge_sdk.types import Value


class Search(Value, frozen=True, kw_only=True):
    """How far a distribution is explored.

    After the answer's last step, up to `extra_reads` more steps follow while more than the share `settled` of a
    number's known probability has only its first digits; with a negative `settled`, they do not stop early. A branch is
    never followed if its number, given the numbers before it, is less likely than `least`. `forks` limits the tokens of
    all branches besides the answer's own.
    """

    settled: float = 0.05
    extra_reads: int = 1
    least: float = 0.01
    forks: int = 40


class Branch(NamedTuple):
    """A beginning of the answer: `tokens` not yet taken in behind `leaf`, all `ids` so far, and the `state` they reach.

    `mass` is its probability, `base` the probability of the complete numbers before its current one.
    """

    leaf: int
    tokens: tuple[int, ...]
    ids: tuple[int, ...]
    state: State
    mass: float
    base: float
    greedy: bool

    @property
    def weight(self) -> float:
        """The probability of its number given the numbers before it, so that ends of the likeliest start come first."""
        return self.mass / self.base if self.base else 0.0


_ROOT = Branch(0, (), (), START, 1.0, 1.0, greedy=True)


class DigitTree:
    """The explored part of the tree.

    `best` is the path of greedy decoding so far; `share` is the probability that the model gave to legal text along it.
    """

    def __init__(self, grammar: Grammar, spelling: Spelling, search: Search) -> None:
        self.grammar, self._spelling, self._search = grammar, spelling, search
        self.best, self.share = _ROOT, 1.0
        self._waiting: dict[int, Branch] = {0: _ROOT}
        self._open: list[Branch] = []
        self._ended: list[Branch] = []
        self._extra, self._forked = 0, 0

    @property
    def told(self) -> bool:
        """Whether greedy decoding has given every number."""
        return self.grammar.told(self.best.state)

    @property
    def stuck(self) -> bool:
        """Whether the model gave no probability at all to any text that the form allows next."""
        return not self.share

    def grown(self, leaf: int, branch: Branch) -> None:
        """Record that `branch` is being taken in as `leaf`."""
        self._waiting[leaf] = branch

    def expand(self, leaf: int, logits: Floats, task: str) -> None:
        """Divide the probability of `leaf` among the tokens that may follow. Raises `RuntimeFailure` naming `task`."""
        branch, scores = self._waiting.pop(leaf), Scores(logits, task)
        tokens, states = self._spelling.allowed(self.grammar, branch.state)
        known = tokens < len(logits)
        legal = np.where(known, scores.of(np.where(known, tokens, 0)), -np.inf)
        top = legal.max()
        weights = np.exp(legal - top) if np.isfinite(top) else np.zeros(len(legal))
        if branch.greedy:
            self.share *= math.exp(top + math.log(weights.sum()) - scores.log_total()) if weights.any() else 0.0
        if not weights.any():
            self._ended.append(branch)
            return
        shares, best = weights / weights.sum(), int(weights.argmax())
        base = branch.mass if branch.state.times and not self.grammar.begun(branch.state) else branch.base
        for index, (token, state, share) in enumerate(zip(tokens.tolist(), states, shares.tolist(), strict=True)):
            greedy = branch.greedy and index == best
            self._keep(Branch(leaf, (token,), (*branch.ids, token), state, branch.mass * share, base, greedy))

    def chosen(self, width: int) -> Iterator[Branch]:
        """Yield the branches to take in next, each with the text that must follow; none if nothing is left to learn.

        These are the answer's own branch, and others as far as `width` has room for their tokens.
        """
        if self.stuck or (self.told and (self._extra == self._search.extra_reads or self._settled())):
            return
        self._extra += self.told
        for branch in sorted(self._open, key=lambda each: (not each.greedy, -each.weight)):
            if not branch.greedy and (branch.weight < self._search.least or width < 1):
                return
            longer = self._jumped(branch)
            taken = len(longer.tokens)
            if branch.greedy:
                self.best = longer
            elif taken > width or self._forked + taken > self._search.forks:
                return
            else:
                self._forked += taken
            width -= taken
            self._open.remove(branch)
            yield longer

    def distributions(self) -> list[Masses]:
        """Return the distribution of each number: float64 `[n]`, sum 1, in tenths from the grammar's first time on."""
        return marginals(self.grammar, self._beliefs())

    def joint(self) -> JointBelief:
        """Return the joint distribution of an interval's start and end; greedy decoding must have given the start."""
        return joint(self.grammar, self._beliefs())

    def _beliefs(self) -> list[Belief]:
        return [Belief(each.state, each.mass) for each in (*self._ended, *self._open, *self._waiting.values())]

    def _keep(self, child: Branch) -> None:
        if child.greedy or child.weight >= self._search.least:
            _, settled = self.grammar.forced(child.state)
            if self.grammar.told(settled):
                child = child._replace(state=settled)
        (self._ended if self.grammar.told(child.state) else self._open).append(child)
        if child.greedy:
            self.best = child

    def _settled(self) -> bool:
        """Return whether only a small share of each number's probability is on incomplete numbers."""
        known, spread = np.zeros((2, self.grammar.numbers))
        for branch in (*self._ended, *self._open):
            told = len(branch.state.times)
            known[:told] += branch.mass
            if self.grammar.begun(branch.state):
                spread[told] += branch.mass
        return bool((spread <= self._search.settled * (known + spread)).all())

    def _jumped(self, branch: Branch) -> Branch:
        tokens = self._spelling.jump(self.grammar, branch.ids, branch.state)
        state = self._spelling.walk(self.grammar, branch.state, tokens)
        return branch._replace(tokens=(*branch.tokens, *tokens), ids=(*branch.ids, *tokens), state=state)
