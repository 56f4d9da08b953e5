"""Free text, read greedily: at every step the most likely token of the whole vocabulary, until an end token.

The reference's evaluation decodes this way, and only greedy tokens can be compared with those of another
implementation. If a text follows the joint verdict of video LLM and student, its first token cannot deny that verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.bundle.manifest_language import AnswerFit
from edge_sdk.reasoning.answer import Answer, AnswerContext, Floats, Growth, Verdict
from edge_sdk.reasoning.forms.denials import Denials
from edge_sdk.reasoning.forms.scores import MIN_TEXT_PROBABILITY, Scores, calibrated, doubtful
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import Task


class TextReader:
    """Reads a task's answer as text, whatever its form.

    The probability is the geometric mean of the tokens' probabilities, including the end token's. An answer abstains if
    it is empty, less likely than `MIN_TEXT_PROBABILITY` (or its calibration's threshold, if there is one), or has not
    ended within the context's `max_tokens`.

    An answer joined with the student follows their joint verdict. Without a crash, it is the task's own sentence for
    that, and nothing is decoded. With a crash, tokens that begin this sentence cannot be chosen first. The probability
    is then that of the verdict; with a crash, it is multiplied by the calibrated probability of the text.
    """

    def __init__(self, task: Task, tokenizer: Tokenizer, context: AnswerContext) -> None:
        self._task, self._context = task, context
        self._stream = tokenizer.stream()
        self._ids: list[int] = []
        self._leaf = 0
        self._text, self._shown = "", 0
        self._log_sum, self._steps = 0.0, 0
        self._ended = False
        self._verdict: Verdict | None = None
        self._tokenizer = tokenizer

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens so far, without an end token."""
        return tuple(self._ids)

    def read(self, logits: Mapping[int, Floats]) -> Sequence[Growth]:
        """Take the next logits and return what to grow. Raises `RuntimeFailure`."""
        row = logits[self._leaf]
        if not self._steps and (verdict := self._told()):
            self._verdict = verdict
            if not verdict.crash:
                self._text, self._ended = str(self._task.negative), True
                return ()
            row = row.copy()
            row[Denials.of(self._tokenizer).first(str(self._task.negative))] = -np.inf
        scores = Scores(row, self._task.id)
        token = scores.best
        self._log_sum += float(row[token]) - scores.log_total()
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
        """Return the text since the last call, in whole characters."""
        start, self._shown = self._shown, len(self._text)
        return self._text[start:]

    def answer(self) -> Answer:
        """Return the text so far; `abstain` is set until it has ended."""
        own = math.exp(self._log_sum / self._steps) if self._steps else None
        fit: AnswerFit | None = self._context.calibration.get(self._task.id)
        both, verdict = self._context.fused(self._task.id), self._verdict
        if verdict is not None and both is not None:
            fit = both.fit
        probability = None if own is None else calibrated(own, fit)
        if verdict is not None:
            probability = verdict.probability * (1.0 if probability is None else probability)
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
            with_student=self._verdict is not None,
        )

    def _told(self) -> Verdict | None:
        """Return the verdict that this text must follow; None if there is none, or the text is the model's own."""
        settled = self._context.verdict.crash is not None and self._task.negative is not None
        mine = self._task.form == "text" and self._context.fused(self._task.id) is not None
        return self._context.verdict if settled and mine else None
