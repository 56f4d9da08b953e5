"""Read a time or an interval under a grammar, with its distribution.

Greedy decoding under the grammar gives the text, which equals the reference's wherever the reference's own greedy
answer is well formed. The value is the best answer under the model's whole distribution: greedy decoding takes the
likeliest digit at each step, and most of the probability may lie on one side of the resulting time. Forced text is not
decoded: it is taken in together with the digit before it, and at the end of the answer not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from edge_sdk.bundle.manifest_language import AnswerFit
from edge_sdk.reasoning.answer import Answer, AnswerContext, Floats, Growth, Span
from edge_sdk.reasoning.forms.digit_tree import DigitTree, Search
from edge_sdk.reasoning.forms.distribution import Masses, central, median
from edge_sdk.reasoning.forms.grammar import TENTHS, Grammar
from edge_sdk.reasoning.forms.joint import JointBelief
from edge_sdk.reasoning.forms.scores import MIN_FORM_SHARE, RIGHT_IOU, RIGHT_S, calibrated, doubtful
from edge_sdk.reasoning.forms.spelling import Spelling
from edge_sdk.reasoning.sighting import density
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import Task


class _Chosen(NamedTuple):
    """A value in tenths, the model's belief that it is right, the distributions behind it, and the fit to apply."""

    times: Sequence[int]
    belief: float
    masses: Sequence[Masses]
    fit: AnswerFit | None
    with_student: bool = False


class TimeReader:
    """Reads a task of the form `time` or `interval`.

    `text` is the output of greedy decoding under the grammar. `value` is the interval of the highest expected IoU, see
    `joint`, or for a time the median, which has the smallest expected error. `probability` is the calibrated
    probability that `value` is right: within `RIGHT_S` of the true time, or with an IoU of at least `RIGHT_IOU`. The
    answer abstains if the model gave less than `MIN_FORM_SHARE` to legal text along `text`, or if `probability` is
    below the threshold of its calibration. If an interval is joined with the student, and the student saw a crash, the
    value, its probability and its bounds use the model's distribution multiplied by the student's.
    """

    def __init__(self, task: Task, tokenizer: Tokenizer, context: AnswerContext, search: Search | None = None) -> None:
        """Raise `ConfigError` for invalid times of the clip, `BundleError` for a tokenizer that cannot spell times."""
        self._task, self._tokenizer, self._context = task, tokenizer, context
        self._grammar = Grammar(task.form, context.first_s, context.last_s, context.period_s)
        self._tree = DigitTree(self._grammar, Spelling.of(tokenizer), search or Search())
        self._reads, self._leaves, self._taken, self._shown = 0, 0, 0, 0

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens of greedy decoding so far."""
        return self._tree.best.ids

    @property
    def first_s(self) -> float:
        """The earliest time that an answer may give, in seconds."""
        return self._grammar.first / TENTHS

    def distributions(self) -> list[Masses]:
        """Return each number's distribution so far: float64 `[n]`, sum 1, in tenths of a second from `first_s` on."""
        return self._tree.distributions()

    def read(self, logits: Mapping[int, Floats]) -> Sequence[Growth]:
        """Read the leaves grown last and return what to grow next. Raises `RuntimeFailure`."""
        self._reads += 1
        for leaf, row in logits.items():
            self._tree.expand(leaf, row, self._task.id)
        growths = []
        for branch in self._tree.chosen(self._context.width):
            self._leaves += 1
            self._taken += len(branch.tokens)
            self._tree.grown(self._leaves, branch)
            growths.append(Growth(leaf=branch.leaf, tokens=branch.tokens))
        return growths

    def pieces(self) -> str:
        """Return the text since the last call: digits as they are decided, and the text that must follow them."""
        start, text = self._shown, self._text()
        self._shown = len(text)
        return text[start:]

    def answer(self) -> Answer:
        """Return the answer, which has no value until greedy decoding has given every number."""
        answer = Answer(
            task=self._task.id,
            form=self._task.form,
            text=self._text(),
            form_share=min(self._tree.share, 1.0) if self._reads else None,
            tokens=self._taken,
            grid=self._context.grid,
        )
        return self._told_answer(answer) if self._tree.told else answer

    def _text(self) -> str:
        best = self._tree.best
        return self._grammar.text(best.state.times) if self._tree.told else self._tokenizer.decode(best.ids)

    def _told_answer(self, answer: Answer) -> Answer:
        chosen = self._fused() or self._chosen()
        fit = chosen.fit
        probability = calibrated(min(1.0, chosen.belief), fit)
        lows, highs = zip(*self._intervals(chosen), strict=True)
        return msgspec.structs.replace(
            answer,
            value=_value([time / TENTHS for time in chosen.times]),
            probability=probability,
            calibrated=fit is not None,
            lo=_value(lows),
            hi=_value(highs),
            abstain=self._tree.share < MIN_FORM_SHARE or doubtful(probability, fit),
            with_student=chosen.with_student,
        )

    def _chosen(self) -> _Chosen:
        fit, masses = self._context.calibration.get(self._task.id), self.distributions()
        if self._grammar.numbers > 1:
            return _interval(self._tree.joint(), masses, fit)
        place, reach = median(masses[0]), round(RIGHT_S * TENTHS)
        near = float(masses[0][max(0, place - reach) : place + reach + 1].sum())
        return _Chosen((self._grammar.first + place,), near, masses, fit)

    def _fused(self) -> _Chosen | None:
        """Return the interval of the model's distribution times the student's; None if the two are not joined."""
        both = self._context.fused(self._task.id) if self._grammar.numbers > 1 else None
        if both is None or both.sighting.start is None:
            return None
        first, last, belief = self._grammar.first, self._grammar.last, self._tree.joint()
        weighed = belief.weighed(
            density(both.sighting.start, belief.starts, first, last),
            density(both.sighting.end, belief.ends, first, last),
        )
        return _interval(weighed, weighed.marginals(first, last), both.fit)._replace(with_student=True)

    def _intervals(self, chosen: _Chosen) -> Iterator[Span]:
        """Yield the central 80 % of each number in seconds, widened by calibration and to contain the value."""
        first_s, last_s = self.first_s, self._grammar.last / TENTHS
        margin_s = 0.0 if chosen.fit is None else chosen.fit.margin_s
        for time, masses in zip(chosen.times, chosen.masses, strict=True):
            low, high = ((self._grammar.first + index) / TENTHS for index in central(masses))
            low, high = max(first_s, low - margin_s), min(last_s, high + margin_s)
            yield round(min(low, time / TENTHS), 3), round(max(high, time / TENTHS), 3)


def _interval(belief: JointBelief, masses: Sequence[Masses], fit: AnswerFit | None) -> _Chosen:
    best = belief.best()
    return _Chosen(best, belief.near(*best, RIGHT_IOU), masses, fit)


def _value(times: Sequence[float]) -> float | Span:
    return times[0] if len(times) == 1 else (times[0], times[1])
