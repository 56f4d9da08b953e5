"""The suite's tables: each scorer's decisions on rendered clips against the truth, and the student by condition."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.clips import LabelledClip
from edge_sdk.evaluation import ClipScores, Guess
from edge_sdk.evaluation.boundaries import Overlap, StartError, coverage, overlap, start_error
from edge_sdk.evaluation.metrics import average_precision
from edge_sdk.evaluation.report import Measure, measure
from edge_sdk.evaluation.resample import Proportion, bootstrap
from edge_sdk.types import Value

Labels = NDArray[np.bool_]
Floats = NDArray[np.float64]

CONDITIONS = ("view", "light", "weather")
ROUNDS = 1000
NOWHERE = (math.nan, math.nan)


class SuiteRow(Value, frozen=True, kw_only=True):
    """One scorer on the suite; a measure that the clips do not define is null.

    `near_miss_f1` covers only the crashes and the `near_misses`, without other clips that show no crash. `start`,
    `coverage`, `width_median_s` and `overlap_detected` cover the crashes that the scorer detected, by its first guess;
    in `overlap_all` a crash that it did not detect has overlap 0. F1 has 95 % bootstrap intervals by clip.
    """

    scorer: str
    threshold: float | None
    clips: int
    crashes: int
    near_misses: int
    f1: Measure
    near_miss_f1: Measure
    precision: float | None
    recall: float | None
    clip_ap: float | None
    start: StartError
    coverage: Proportion | None
    width_median_s: float | None
    overlap_detected: Overlap
    overlap_all: Overlap


class ConditionRow(Value, frozen=True, kw_only=True):
    """The student on the clips of one condition; `yes_f1` is the F1 of always answering yes on these clips."""

    condition: str
    yes_f1: float | None
    row: SuiteRow


class SuiteReport(Value, frozen=True, kw_only=True):
    """The suite's rows and the data behind them."""

    schema: int = 2
    date_utc: str
    commit: str | None
    bundle: str
    bundle_sha256: str
    generator: str
    clips: int
    crashes: int
    training_clips: int
    rows: tuple[SuiteRow, ...]
    conditions: tuple[ConditionRow, ...]
    misses: tuple[str, ...]
    false_alarms: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Decided:
    """One scorer's answers to clips, and in which of the clips (bool `[clips]`) it detected a crash."""

    scorer: str
    threshold: float | None
    clips: Sequence[LabelledClip]
    found: Sequence[ClipScores]
    detected: Labels

    @property
    def labels(self) -> Labels:
        """Which clips show a crash, bool `[clips]`."""
        return np.array([clip.crash for clip in self.clips], np.bool_)

    @property
    def near(self) -> Labels:
        """Which clips are near misses, bool `[clips]`."""
        return np.array([clip.record is not None and clip.record.kind == "near_miss" for clip in self.clips], np.bool_)

    def of(self, chosen: Labels) -> Decided:
        """The decisions for the clips chosen by bool `[clips]`."""
        at = np.flatnonzero(chosen).tolist()
        return Decided(
            scorer=self.scorer,
            threshold=self.threshold,
            clips=[self.clips[i] for i in at],
            found=[self.found[i] for i in at],
            detected=self.detected[at],
        )


def row_of(decided: Decided, *, seed: int = 0) -> SuiteRow:
    """The row of one scorer. Raises `ConfigError` for scores that are NaN."""
    labels, detected = decided.labels, decided.detected
    hits = labels & detected
    guesses = [
        answer.guesses[0] if hit and answer.guesses else None
        for answer, hit in zip(decided.found, hits.tolist(), strict=True)
    ]
    guessed = [(clip, guess) for clip, guess in zip(decided.clips, guesses, strict=True) if guess is not None]
    bounds = np.array([guess.start_interval_s or NOWHERE for _, guess in guessed], np.float64).reshape(-1, 2)
    bounded = bounds[~np.isnan(bounds).any(axis=1)]
    starts = np.array([clip.start_s for clip, _ in guessed], np.float64)
    return SuiteRow(
        scorer=decided.scorer,
        threshold=decided.threshold,
        clips=labels.size,
        crashes=int(labels.sum()),
        near_misses=int(decided.near.sum()),
        f1=f1_of(decided, seed=seed),
        near_miss_f1=_near_miss_f1(decided, seed),
        precision=int(hits.sum()) / int(detected.sum()) if detected.any() else None,
        recall=int(hits.sum()) / int(labels.sum()) if labels.any() else None,
        clip_ap=average_precision(labels, [answer.score for answer in decided.found]) if labels.any() else None,
        start=start_error(starts, [guess.start_s for _, guess in guessed]),
        coverage=coverage(starts, bounds[:, 0], bounds[:, 1]) if len(bounded) else None,
        width_median_s=float(np.median(np.diff(bounded))) if len(bounded) else None,
        overlap_detected=_overlap(decided, guesses, hits),
        overlap_all=_overlap(decided, guesses, labels),
    )


def f1_of(decided: Decided, *, seed: int = 0) -> Measure:
    """F1 of the decisions, with its bootstrap interval by clip; null where there is neither crash nor detection."""
    truth, claimed = decided.labels, decided.detected

    def f1(weight: Floats) -> float:
        total = weight @ claimed + weight @ truth
        return float(2 * (weight @ (claimed & truth)) / total) if total else math.nan

    groups = [clip.group for clip in decided.clips]
    return measure(f1(np.ones(truth.size)), bootstrap(groups, f1, rounds=ROUNDS, seed=seed))


def condition_rows(decided: Decided) -> tuple[ConditionRow, ...]:
    """A row for each view, light and weather that occurs in the clips; clips without a record are left out."""
    return tuple(
        ConditionRow(condition=name, yes_f1=_yes_f1(part.labels), row=row_of(part, seed=0))
        for name, part in _parts(decided)
    )


def describe_clips(clips: Sequence[LabelledClip], chosen: Labels) -> tuple[str, ...]:
    """Name, view, scenario and conditions of the chosen clips, for a closer look at them."""
    records = [clip.record for clip, wanted in zip(clips, chosen, strict=True) if wanted and clip.record is not None]
    return tuple(f"{r.name} {r.view} {r.kind} {r.scenario} {r.light} {r.weather}" for r in records)


def suite_markdown(report: SuiteReport) -> str:
    """The suite's table and the student's by condition, with their own conditions under them."""
    by_condition = [(each.condition, each.row, [_share(each.yes_f1)]) for each in report.conditions]
    return "\n".join(
        [
            *_table("scorer", [], [(row.scorer, row, []) for row in report.rows]),
            "",
            f"{report.clips} rendered clips, {report.crashes} with a crash, scene generator {report.generator}; "
            f"trivial thresholds tuned on {report.training_clips} training clips; near-miss F1 of the crashes and the "
            "near misses alone; starts and intervals of detected crashes; mIoU of detected crashes, and of all, where "
            "one that was not detected has 0; in brackets 95 % intervals (bootstrap by clip; Wilson for shares); "
            f"bundle {report.bundle} {report.bundle_sha256[:12]}, commit {report.commit}, {report.date_utc}.",
            "",
            "### The student by condition",
            "",
            *_table("condition", ["F1 of always yes"], by_condition),
            "",
        ]
    )


def _table(head: str, further: list[str], rows: Sequence[tuple[str, SuiteRow, list[str]]]) -> list[str]:
    columns = [
        head,
        "clips, crashes, near misses",
        *further,
        "F1",
        "near-miss F1",
        "precision",
        "recall",
        "clip AP",
        "start error, mean (median) s",
        "80 % interval covers",
        "its median width s",
        "mIoU, detected / all",
    ]
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|--:" * (len(columns) - 1) + "|"]
    return lines + ["| " + " | ".join([name, *_counts(row), *more, *_cells(row)]) + " |" for name, row, more in rows]


def _counts(row: SuiteRow) -> list[str]:
    return [f"{row.clips}, {row.crashes}, {row.near_misses}"]


def _cells(row: SuiteRow) -> list[str]:
    error, share = row.start, row.coverage
    detected, every = row.overlap_detected, row.overlap_all
    return [
        _measure(row.f1),
        _measure(row.near_miss_f1),
        _share(row.precision),
        _share(row.recall),
        _share(row.clip_ap),
        "" if error.mae_s is None else f"{error.mae_s:.2f} ({error.median_s:.2f}), n = {error.n}",
        "" if share is None or share.share is None else f"{share.share:.0%} ({share.lo:.0%}-{share.hi:.0%})",
        "" if row.width_median_s is None else f"{row.width_median_s:.2f}",
        f"{detected.mean_iou or 0:.2f} / {every.mean_iou:.2f}" if every.mean_iou else "",
    ]


def _measure(found: Measure) -> str:
    if found.value is None or found.lo is None or found.hi is None:
        return _share(found.value)
    return f"{found.value:.3f} ({found.lo:.2f}-{found.hi:.2f})"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _near_miss_f1(decided: Decided, seed: int) -> Measure:
    labels, near = decided.labels, decided.near
    if not (labels.any() and near.any()):
        return Measure(value=None, lo=None, hi=None)
    return f1_of(decided.of(labels | near), seed=seed)


def _yes_f1(labels: Labels) -> float | None:
    crashes = int(labels.sum())
    return 2 * crashes / (labels.size + crashes) if crashes else None


def _overlap(decided: Decided, guesses: Sequence[Guess | None], chosen: Labels) -> Overlap:
    """Overlap on the `chosen` clips with labelled start and end; it is 0 for no guess, or for one without an end."""
    spans = []
    for clip, guess, wanted in zip(decided.clips, guesses, chosen.tolist(), strict=True):
        if wanted and clip.start_s is not None and clip.end_s is not None:
            said = NOWHERE if guess is None or guess.end_s is None else (guess.start_s, guess.end_s)
            spans.append(((clip.start_s, clip.end_s), said))
    both = np.array(spans, np.float64).reshape(-1, 2, 2)
    return overlap(both[:, 0], both[:, 1])


def _parts(decided: Decided) -> Iterator[tuple[str, Decided]]:
    """Each condition with its clips, in the order of `CONDITIONS`, then by name."""
    for condition in CONDITIONS:
        values = np.array(["" if clip.record is None else getattr(clip.record, condition) for clip in decided.clips])
        for value in sorted(set(values.tolist()) - {""}):
            yield f"{condition} {value}", decided.of(values == value)
