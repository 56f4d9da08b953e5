"""Score the answers to one task in two readings: the reference's and a repaired one.

The reference leaves out answers that it cannot read, which favours models that are unreadable on hard clips. In the
repaired reading every labelled clip counts, and an answer that is missing or cannot be read is wrong. Clips on which no
answer could score (a crash labelled with zero length, a warning sign without a crash start) are left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.boundaries import TOLERANCE
from edge_sdk.evaluation.report import Measure
from edge_sdk.evaluation.tasks import intervals, parse, pre_crash, recognition, text
from edge_sdk.evaluation.tasks.draws import Draws, Floats, sure
from edge_sdk.tasks import AnswerForm, find_task

T = TypeVar("T")
NAN = float("nan")
NOTHING = (NAN, NAN)


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """One task for some clips: right answers, given answers (None: not given), and labelled crash intervals, if any.

    `own` holds the scores that each clip's predictions brought along.
    """

    task: str
    videos: tuple[str, ...]
    truths: tuple[str, ...]
    answers: tuple[str | None, ...]
    spans: tuple[str | None, ...]
    own: tuple[dict[str, float], ...]
    draws: Draws

    def of(self, chosen: Sequence[int]) -> Asked:
        """Return some of the clips, by index."""
        return Asked(
            task=self.task,
            videos=tuple(self.videos[i] for i in chosen),
            truths=tuple(self.truths[i] for i in chosen),
            answers=tuple(self.answers[i] for i in chosen),
            spans=tuple(self.spans[i] for i in chosen),
            own=tuple(self.own[i] for i in chosen),
            draws=self.draws.take(np.asarray(chosen, np.intp)),
        )

    def saying(self, answers: Sequence[str]) -> Asked:
        """Return the same clips with other answers, without `own` scores."""
        return replace(self, answers=tuple(answers), own=({},) * len(self.videos))


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Scores in both readings, and the number of clips behind each.

    `missing` clips were not answered, `dropped` are answered clips that the reference cannot read, and `unscorable` are
    clips on which no answer could score.
    """

    reference: dict[str, Measure]
    reference_clips: int
    missing: int
    dropped: int
    repaired: dict[str, Measure]
    repaired_clips: int
    unscorable: int


def judge(asked: Asked) -> Judged:
    """Score the answers. Raises `ConfigError` for a right answer that cannot be read."""
    judged = _JUDGES[find_task(asked.task).form](asked)
    return replace(judged, repaired={**judged.repaired, **_own(asked, judged.repaired)})


def _yes_no(asked: Asked) -> Judged:
    truth = _readable(asked, parse.yes_no)
    said = [None if answer is None else parse.yes_no(answer) for answer in asked.answers]
    claimed = [not right if answer is None else answer for right, answer in zip(truth, said, strict=True)]
    pairs = [(parse.reference_yes_no(t), parse.reference_yes_no(a or "")) for t, a in _pairs(asked)]
    kept = _indices(None not in pair for pair in pairs)
    reference = recognition.scores([pairs[i][0] for i in kept], [pairs[i][1] for i in kept], asked.draws.take(kept))
    repaired = recognition.scores(truth, claimed, asked.draws, strict=True)
    return _judged(asked, reference, kept, repaired, len(truth))


def _text(asked: Asked) -> Judged:
    said = [(truth.strip(), (answer or "").strip()) for truth, answer in _pairs(asked)]
    kept = _indices(bool(truth and answer) for truth, answer in said)
    reference = text.scores([said[i][0] for i in kept], [said[i][1] for i in kept], asked.draws.take(kept))
    repaired = text.scores([truth for truth, _ in said], [answer for _, answer in said], asked.draws)
    return _judged(asked, reference, kept, repaired, len(said))


def _interval(asked: Asked) -> Judged:
    kept = _indices(answer is not None for answer in asked.answers)
    pairs = [(parse.reference_interval(t), parse.reference_interval(a or "")) for t, a in _pairs(asked)]
    spans = np.array([pairs[i] for i in kept], np.float64).reshape(-1, 2, 2)
    reference = intervals.scores(intervals.reference_iou(spans[:, 0], spans[:, 1]), asked.draws.take(kept))
    truth = np.array(_readable(asked, parse.interval), np.float64).reshape(-1, 2)
    said = [None if answer is None else parse.interval(answer) for answer in asked.answers]
    answer = np.array([each or NOTHING for each in said], np.float64).reshape(-1, 2)
    fair = np.flatnonzero(truth[:, 1] > truth[:, 0])
    draws = asked.draws.take(fair)
    repaired = intervals.scores(intervals.reference_iou(truth[fair], answer[fair]), draws, tolerance=TOLERANCE)
    repaired |= intervals.start_scores(truth[fair, 0], answer[fair, 0], draws)
    return _judged(asked, reference, kept, repaired, fair.size)


def _time(asked: Asked) -> Judged:
    plain = _table(
        (
            parse.reference_time(truth),
            parse.reference_time(answer or ""),
            None if span is None else parse.reference_interval(span)[0],
        )
        for (truth, answer), span in zip(_pairs(asked), asked.spans, strict=True)
    )
    kept = np.flatnonzero(~np.isnan(plain).any(axis=1))
    reference = _pre_crash(plain[kept], asked.draws.take(kept), 0.0)
    times = _table(
        (truth, parse.time(answer or ""), (parse.interval(span or "") or (None,))[0])
        for truth, answer, span in zip(_readable(asked, parse.time), asked.answers, asked.spans, strict=True)
    )
    fair = np.flatnonzero(times[:, 2] > times[:, 0])
    repaired = _pre_crash(times[fair], asked.draws.take(fair), TOLERANCE)
    return _judged(asked, reference, kept, repaired, fair.size)


_JUDGES: dict[AnswerForm, Callable[[Asked], Judged]] = {
    "yes_no": _yes_no,
    "text": _text,
    "interval": _interval,
    "time": _time,
}


def _pre_crash(times: Floats, draws: Draws, tolerance: float) -> dict[str, Measure]:
    sign, answer, crash = times.T
    iou = pre_crash.reference_iou(sign, answer, crash, tolerance_s=tolerance)
    return pre_crash.scores(sign, answer, crash, iou, draws, tolerance=tolerance)


def _judged(
    asked: Asked, reference: dict[str, Measure], kept: NDArray[np.intp], repaired: dict[str, Measure], fair: int
) -> Judged:
    missing = sum(answer is None for answer in asked.answers)
    return Judged(
        reference=reference,
        reference_clips=kept.size,
        missing=missing,
        dropped=len(asked.videos) - missing - kept.size,
        repaired=repaired,
        repaired_clips=fair,
        unscorable=len(asked.videos) - fair,
    )


def _own(asked: Asked, known: dict[str, Measure]) -> dict[str, Measure]:
    """Average the scores that came with the answers, each over the clips that have it."""
    found = {}
    for name in dict.fromkeys(name for scores in asked.own for name in scores):
        if name in known:
            raise ConfigError(
                f"expected another name for the score {name!r} of {asked.task}: that one is computed here"
            )
        having = _indices(name in scores for scores in asked.own)
        found[name] = sure(asked.draws.take(having).mean([asked.own[i][name] for i in having]))
    return found


def _readable(asked: Asked, read: Callable[[str], T | None]) -> list[T]:
    """Parse every right answer. Raises `ConfigError` for one that cannot be read."""
    found = []
    for video, truth in zip(asked.videos, asked.truths, strict=True):
        meaning = read(truth)
        if meaning is None:
            raise ConfigError(f"the annotation of {asked.task} for {video} cannot be read: {truth!r}")
        found.append(meaning)
    return found


def _pairs(asked: Asked) -> Iterator[tuple[str, str | None]]:
    return zip(asked.truths, asked.answers, strict=True)


def _table(rows: Iterable[tuple[float | None, ...]]) -> Floats:
    """Make an array with three columns of times; None becomes NaN."""
    return np.array([[NAN if time is None else time for time in row] for row in rows], np.float64).reshape(-1, 3)


def _indices(chosen: Iterable[bool]) -> NDArray[np.intp]:
    return np.flatnonzero(np.fromiter(chosen, np.bool_))
