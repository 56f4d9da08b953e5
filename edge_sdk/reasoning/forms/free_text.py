"""Free text, read greedily: at every step the most likely token of the whole vocabulary, until one that ends.

This is the decoding of the reference's evaluation, and the only one whose tokens can be compared with those of another
implementation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edge_sdk.reasoning.answer import Answer, AnswerContext, Floats, Growth
from edge_sdk.reasoning.forms.scores import MIN_TEXT_PROBABILITY, Scores, calibrated, doubtful
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import Task


class TextReader:
    """Reads a task's answer as text, whatever its form.

    The probability is the geometric mean of the tokens', that of the end included. An answer abstains that is empty,
    less likely than `MIN_TEXT_PROBABILITY` (its calibration's threshold, where there is one), or has not ended within
    the context's `max_tokens`.
    """

    def __init__(self, task: Task, tokenizer: Tokenizer, context: AnswerContext) -> None:
        self._task, self._context = task, context
        self._stream = tokenizer.stream()
        self._ids: list[int] = []
        self._leaf = 0
        self._text, self._shown = "", 0
        self._log_sum, self._steps = 0.0, 0
        self._ended = False

    @property
    def ids(self) -> tuple[int, ...]:
        """Tokens so far, without an end token."""
        return tuple(self._ids)

    def read(self, logits: Mapping[int, Floats]) -> Sequence[Growth]:
        """Take the next logits; what to grow. Raises `RuntimeFailure`."""
        scores = Scores(logits[self._leaf], self._task.id)
        token = scores.best
        self._log_sum += float(logits[self._leaf][token]) - scores.log_total()
        self._steps += 1
        self._ended = token in self._context.end_tokens
        if not self._ended:
            self._ids.append(token)
            self._text += self._stream.push(token)
        if self._ended or len(self._ids) == self._context.max_tokens:
            self._text += self._stream.finish()
            return ()
        self._leaf += 1
        return (Growth(leaf=self._leaf - 1, tokens=(token,)),)

    def pieces(self) -> str:
        """Text since the last call, whole characters."""
        start, self._shown = self._shown, len(self._text)
        return self._text[start:]

    def answer(self) -> Answer:
        """What was said so far; `abstain` until it has ended."""
        own = math.exp(self._log_sum / self._steps) if self._steps else None
        fit = self._context.calibration.get(self._task.id)
        probability = None if own is None else calibrated(own, fit)
        unsure = doubtful(probability, fit, MIN_TEXT_PROBABILITY)
        return Answer(
            task=self._task.id,
            form="text",
            text=self._text,
            probability=probability,
            calibrated=fit is not None,
            tokens=self._leaf,
            grid=self._context.grid,
            abstain=not self._ended or not self._text.strip() or unsure,
        )
