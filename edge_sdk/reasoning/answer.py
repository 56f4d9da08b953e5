"""Answers of the video LLM, and the interface between the decoder and the readers of answers.

A reader looks at logits and says which tokens the decoder must take in next; it owns no model. Tokens form a tree: leaf
0 is the end of the question, and each growth becomes the next leaf. So a reader can follow several continuations at
once, and a decoder can serve many readers in one call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle.manifest_language import AnswerCalibration, FusedFit
from edge_sdk.reasoning.sighting import Sighting
from edge_sdk.tasks import AnswerForm
from edge_sdk.types import Value

Floats = NDArray[np.float32]
Span = tuple[float, float]


class Answer(Value, frozen=True, kw_only=True):
    """One answer. Times are seconds on the prompt's clock, to a tenth.

    `value` is a bool for `yes_no`, seconds for `time`, and (start, end) for `interval`. It is None for `text` and for
    an answer that was not read to its end. `text` is the output of greedy decoding, as in the reference implementation.
    The `value` of an interval has the highest expected IoU under the model's distribution, and that of a time is the
    median, so both may differ from `text` (minimum Bayes risk, see `forms.joint`).

    `probability` is that of the given answer, also for a "No". For a time or interval it is the probability that
    `value` is right, as `forms.scores` defines it. `calibrated` says whether it was fitted on validation clips.
    `lo..hi` is the central 80 % of the model's distribution and always contains `value`; for an interval both `lo` and
    `hi` are pairs (start, end). `form_share` is the share of the model's probability on tokens that the form allows,
    where there was a choice; None for free text. `tokens` counts the tokens that the decoder took in for the answer.
    `grid` is the size of the pictures in pixels ("364x196"). `abstain`: do not rely on the answer. `contradiction` is
    None if there was nothing to compare with.

    `with_student`: `value`, `probability`, `lo` and `hi` take into account what the student saw of the clip, see
    `sighting`. `text` is still the video LLM's own, except for a task of the form `text`, where it never contradicts
    the joint verdict of both.
    """

    task: str
    form: AnswerForm
    value: bool | float | Span | None = None
    text: str = ""
    probability: float | None = None
    calibrated: bool = False
    lo: float | Span | None = None
    hi: float | Span | None = None
    form_share: float | None = None
    tokens: int = 0
    grid: str | None = None
    abstain: bool = True
    contradiction: bool | None = None
    with_student: bool = False


class Growth(Value, frozen=True, kw_only=True):
    """Tokens to take in behind `leaf`; growths become the leaves 1, 2, 3, … in the order returned."""

    leaf: int
    tokens: tuple[int, ...]


@dataclass
class Verdict:
    """The joint verdict of video LLM and student on a crash, with its `probability`; None until it is known.

    Texts of the same conversation follow the verdict, so that none denies what the others describe. They cannot where
    the vocabulary spells "Yes" or "No" in several tokens, because a text has begun by the time the word is read.
    """

    crash: bool | None = None
    probability: float = 0.0


class Fusion(NamedTuple):
    """The fit for answers joined with the student, and what the student saw of the clip."""

    fit: FusedFit
    sighting: Sighting


class AnswerContext(Value, frozen=True, kw_only=True):
    """What a reader must know about the clip, the model and the decoder.

    `first_s` and `last_s` are the prompt's times of the clip's first and last frame. `period_s` is the sampling period
    of the frames; answers may lie that far before the first and after the last frame. `calibration` is by task; tasks
    without an entry are not calibrated. `sighting` is what the student saw of the clip, None if it did not watch.
    `verdict` is shared by the readers of one conversation. `width` limits the tokens that one reader requests at a
    time: only the answer itself may exceed it, and other branches fill the rest.
    """

    first_s: float
    last_s: float
    period_s: float = 0.1
    end_tokens: tuple[int, ...]
    calibration: Mapping[str, AnswerCalibration] = msgspec.field(default_factory=dict)
    sighting: Sighting | None = None
    verdict: Verdict = msgspec.field(default_factory=Verdict)
    grid: str | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] = 128
    width: Annotated[int, msgspec.Meta(ge=1)] = 8

    def fused(self, task: str) -> Fusion | None:
        """Return the fit for `task` with the student; None if the student did not watch or nothing was fitted."""
        fit = self.calibration.get(task)
        if fit is None or self.sighting is None or isinstance(fit.with_student, msgspec.UnsetType):
            return None
        return Fusion(fit.with_student, self.sighting)


class AnswerReader(Protocol):
    """A reader of one answer from logits."""

    @property
    def ids(self) -> tuple[int, ...]:
        """The decided tokens of the answer's text, without an end token; text that needs no decoding has none."""

    def read(self, logits: Mapping[int, Floats]) -> Sequence[Growth]:
        """Take float32 logits `[vocab]` after each leaf grown last (at first leaf 0), and return what to grow next.

        An empty result means that the answer is complete. Raises `RuntimeFailure`, naming the task, for logits with a
        NaN or without any finite value.
        """

    def pieces(self) -> str:
        """Return the text that became final since the last call, often empty."""

    def answer(self) -> Answer:
        """Return the answer; before completion, what is known so far, with `abstain` set."""
