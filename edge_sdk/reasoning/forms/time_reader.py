"""A time or an interval, read under a grammar, with a distribution.

Greedy decoding under the grammar gives the answer, so that it is the reference's wherever the reference's own greedy
answer is well formed. Text that must follow is not asked for: it is taken in with the digit before it, and at the end
not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from edge_sdk.bundle.manifest_language import AnswerCalibration
from edge_sdk.reasoning.answer import Answer, AnswerContext, Floats, Growth, Span
from edge_sdk.reasoning.forms.digit_tree import DigitTree, Search
from edge_sdk.reasoning.forms.distribution import Masses, central
from edge_sdk.reasoning.forms.grammar import TENTHS, Grammar
from edge_sdk.reasoning.forms.scores import MIN_FORM_SHARE, calibrated, doubtful
from edge_sdk.reasoning.forms.spelling import Spelling
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import Task


class TimeReader:
    """Reads a task of the form `time` or `interval`.

    `value` is what greedy decoding under the grammar says; `probability` is that of this very value, to the tenth. The
    answer abstains where the model gave less than `MIN_FORM_SHARE` to legal text along the way of the value, and below
    the threshold of its calibration.
    """

    def __init__(self, task: Task, tokenizer: Tokenizer, context: AnswerContext, search: Search | None = None) -> None:
        """Raises `ConfigError` for impossible times of the clip, `BundleError` for an unfit tokenizer."""
        self._task, self._tokenizer, self._context = task, tokenizer, context
        self._grammar = Grammar(task.form, context.first_s, context.last_s, context.period_s)
        self._tree = DigitTree(self._grammar, Spelling.of(tokenizer), search or Search())
        self._reads, self._leaves, self._taken, self._shown = 0, 0, 0, 0

    @property
    def ids(self) -> tuple[int, ...]:
        """Tokens of the value so far."""
        return self._tree.best.ids

    @property
    def first_s(self) -> float:
        """The earliest time that an answer may say."""
        return self._grammar.first / TENTHS

    def distributions(self) -> list[Masses]:
        """What the model believes of each number so far: float64 `[n]`, sum 1, a tenth apart from `first_s` on."""
        return self._tree.distributions()

    def read(self, logits: Mapping[int, Floats]) -> Sequence[Growth]:
        """Look at the leaves grown last; what to grow. Raises `RuntimeFailure`."""
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
        """Text since the last call: digits as they are decided, and what must follow them."""
        start, text = self._shown, self._text()
        self._shown = len(text)
        return text[start:]

    def answer(self) -> Answer:
        """The answer; without a value as long as greedy decoding has not told every number."""
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
        times = self._tree.best.state.times
        fit = self._context.calibration.get(self._task.id)
        probability = calibrated(self._tree.probability(), fit)
        lows, highs = zip(*self._intervals(times, fit), strict=True)
        return msgspec.structs.replace(
            answer,
            value=_value([time / TENTHS for time in times]),
            probability=probability,
            calibrated=fit is not None,
            lo=_value(lows),
            hi=_value(highs),
            abstain=self._tree.share < MIN_FORM_SHARE or doubtful(probability, fit),
        )

    def _intervals(self, times: Sequence[int], fit: AnswerCalibration | None) -> Iterator[Span]:
        """The central 80 % of each number in seconds, widened as calibration says and to hold the value."""
        first_s, last_s = self.first_s, self._grammar.last / TENTHS
        margin_s = 0.0 if fit is None else fit.margin_s
        for time, masses in zip(times, self.distributions(), strict=True):
            low, high = ((self._grammar.first + index) / TENTHS for index in central(masses))
            low, high = max(first_s, low - margin_s), min(last_s, high + margin_s)
            yield round(min(low, time / TENTHS), 3), round(max(high, time / TENTHS), 3)


def _value(times: Sequence[float]) -> float | Span:
    return times[0] if len(times) == 1 else (times[0], times[1])
