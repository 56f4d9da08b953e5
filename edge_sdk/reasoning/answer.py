"""What the video LLM answers, and how an answer is read: the contract between those who decode and those who read.

A reader looks at logits and says which tokens are to be taken in next; it owns no model. Tokens form a tree: leaf 0 is
the end of the question, and each growth becomes the next leaf, so that a reader may follow several continuations at
once and a decoder may serve many readers in one call.
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
    """One answer. Times are seconds as the prompt counted them, to a tenth.

    `value` is a bool for `yes_no`, seconds for `time`, (start, end) for `interval`, None for `text` and for an answer
    that was not read to its end. `text` is what greedy decoding says, the words of the reference. An interval's `value`
    is the one of the highest expected IoU by all that the model believes, a time's is the median, so they may differ
    from `text`: minimum Bayes risk, see `forms.joint`. `probability` is that of the answer given, a "No" included, and
    of a time or interval that `value` is right, as `forms.scores` defines it; `calibrated` says whether validation
    clips stand behind it. `lo..hi` is the central 80 % of the model's distribution, for an interval a pair
    each: `lo` (start, end) and `hi` (start, end); it always holds `value`. `form_share` is the share of the model's
    probability that went to what the form allows, where there was a choice; None for free text. `tokens` is how many
    tokens the decoder took in for it, `grid` the size of the pictures in pixels ("364x196"). `abstain`: do not rely on
    it. `contradiction` is None where there was nothing to compare with. `with_student`: what the student saw of the
    clip went into `value`, `probability`, `lo` and `hi`, see `sighting`. `text` is the video LLM's own all the same,
    but for a task of the form `text`: it says nothing that belies the verdict of both.
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
    """Tokens to be taken in behind `leaf`; the growth becomes the next leaf: 1, 2, 3, … in the order returned."""

    leaf: int
    tokens: tuple[int, ...]


@dataclass
class Verdict:
    """Whether both hold a crash for likelier than none, with which `probability`; None until the question is answered.

    Texts of one conversation are told of it, so that none of them denies what the others describe; but not where the
    vocabulary spells the two words in several tokens: a text has begun by then.
    """

    crash: bool | None = None
    probability: float = 0.0


class Fusion(NamedTuple):
    """The fit of answers with the student, and what that saw of the clip."""

    fit: FusedFit
    sighting: Sighting


class AnswerContext(Value, frozen=True, kw_only=True):
    """What a reader must know of the clip, the model and the decoder.

    `first_s` and `last_s` are the times of the clip's first and last frame as the prompt said them, `period_s` is how
    far apart frames were sampled: times may lie that much beyond the first and the last. `calibration` is by
    task; a task that is not in it is not calibrated. `sighting` is what the student made of the clip, None where it did
    not watch, and `verdict` is shared by the readers of one conversation. `width` bounds the tokens that one reader
    asks for at a time: only the answer itself may exceed it, forks fill what it leaves.
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
        """What answers to `task` are given by with the student; None where it did not watch, or nothing was fitted."""
        fit = self.calibration.get(task)
        if fit is None or self.sighting is None or isinstance(fit.with_student, msgspec.UnsetType):
            return None
        return Fusion(fit.with_student, self.sighting)


class AnswerReader(Protocol):
    """Reads one answer out of logits."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Tokens of the answer's text that are decided, without an end token; text that is forced has none."""

    def read(self, logits: Mapping[int, Floats]) -> Sequence[Growth]:
        """Take logits float32 `[vocab]` after each leaf that was grown last (at first: leaf 0); what to grow next.

        Nothing to grow: the answer is complete. Raises `RuntimeFailure`, naming the task, where logits hold a NaN or
        nothing finite.
        """

    def pieces(self) -> str:
        """Text that became final since the last call, often empty."""

    def answer(self) -> Answer:
        """The answer; before completion what there is, with `abstain`."""
