"""The result of an evaluation as values for JSON, and as tables for people.

Numbers come with their conditions: each table says how its clips were shown, and how many crashes, negatives and
minutes it covers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from edge_sdk.evaluation.boundaries import Delay, Overlap, StartError
from edge_sdk.evaluation.resample import Bounds, Proportion
from edge_sdk.evaluation.samples import TRACKS, Track
from edge_sdk.types import Value

SCHEMA = 1


class Measure(Value, frozen=True, kw_only=True):
    """A number with its bootstrap 95 % interval; null if the data does not define it."""

    value: float | None
    lo: float | None
    hi: float | None


class FalseAlarms(Value, frozen=True, kw_only=True):
    """Alarms outside any crash, in `hours` of footage without one, with a one-sided 95 % upper bound of the rate."""

    count: int
    hours: float
    per_hour: float | None
    upper_per_hour: float | None


class Row(Value, frozen=True, kw_only=True):
    """One scorer's row of one table.

    `f1` is that of the scorer's own verdict, an alarm anywhere in the clip; null for a scorer without alarms.
    `best_f1` chooses its threshold on the same clips: an upper bound.
    """

    scorer: str
    clip_ap: Measure
    clip_auc: Measure
    f1: Measure
    best_f1: Measure
    best_threshold: float | None
    frame_auc: Measure
    start: StartError
    overlap: Overlap
    coverage: Proportion
    delay: Delay | None
    false_alarms: FalseAlarms | None


class Table(Value, frozen=True, kw_only=True):
    """All scorers on one set or view of one track."""

    track: Track
    name: str
    crashes: int
    normals: int
    pre_crash: int
    minutes: float
    rows: tuple[Row, ...]


class Evaluation(Value, frozen=True, kw_only=True):
    """The result of `evaluate`. `failed` are samples that a scorer could not read, with the reason."""

    schema: int = SCHEMA
    seed: int
    bootstrap: int
    tables: tuple[Table, ...]
    failed: tuple[tuple[str, str], ...]


def measure(value: float, bounds: Bounds) -> Measure:
    """Combine `value` and `bounds`; NaN becomes null."""
    known = [None if math.isnan(number) else number for number in (value, *bounds)]
    return Measure(value=known[0], lo=known[1], hi=known[2])


def to_markdown(evaluation: Evaluation) -> str:
    """Render every table with its conditions below it."""
    parts = [_table(table, evaluation) for table in evaluation.tables]
    if evaluation.failed:
        failed = "; ".join(f"{name} ({reason})" for name, reason in evaluation.failed)
        parts.append(f"Could not be scored: {failed}.\n")
    return "\n".join(parts)


# Maps a column's heading to the function that makes its cell.
COLUMNS: dict[str, Callable[[Row], str]] = {
    "scorer": lambda row: row.scorer,
    "clip AP": lambda row: _measure(row.clip_ap),
    "clip AUC": lambda row: _measure(row.clip_auc),
    "F1": lambda row: _measure(row.f1),
    "best F1": lambda row: _measure(row.best_f1),
    "frame AUC": lambda row: _measure(row.frame_auc),
    "start MAE / median s": lambda row: _pair(row.start.mae_s, row.start.median_s),
    "start <= 0.5 / 1 s": lambda row: (
        _pair(row.start.within_half_s.share, row.start.within_one_s.share) if row.start.answered else ""
    ),
    "mIoU / AP@50": lambda row: (
        _pair(row.overlap.mean_iou, row.overlap.recall["0.5"].share) if row.overlap.mean_iou else ""
    ),
    "80 % interval covers": lambda row: _proportion(row.coverage),
    "alarm recall": lambda row: _proportion(row.delay.recall) if row.delay else "",
    "delay median / p90 s": lambda row: _pair(row.delay.median_s, row.delay.p90_s) if row.delay else "",
    "false alarms/h (<=)": lambda row: _alarms(row.false_alarms),
}


def _table(table: Table, evaluation: Evaluation) -> str:
    cells = {head: [cell(row) for row in table.rows] for head, cell in COLUMNS.items()}
    shown = {head: column for head, column in cells.items() if any(column)}
    lines = [f"### {table.name}, {table.track}", "", "| " + " | ".join(shown) + " |"]
    lines.append("|---" + "|--:" * (len(shown) - 1) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in zip(*shown.values(), strict=True)]
    return "\n".join([*lines, "", _conditions(table, evaluation), ""])


def _conditions(table: Table, evaluation: Evaluation) -> str:
    return (
        f"n = {table.crashes} crashes, {table.normals} normal, {table.pre_crash} pre-crash; "
        f"{table.minutes:.1f} minutes. "
        f"Shown: {TRACKS[table.track]}. Seed {evaluation.seed}; in brackets the 95 % interval "
        f"({evaluation.bootstrap} bootstrap rounds by group; Wilson for shares)."
    )


def _measure(measure: Measure) -> str:
    if measure.value is None:
        return ""
    if measure.lo is None or measure.hi is None:
        return f"{measure.value:.3f}"
    return f"{measure.value:.3f} ({measure.lo:.2f}-{measure.hi:.2f})"


def _proportion(share: Proportion) -> str:
    if share.share is None or share.lo is None or share.hi is None:
        return ""
    return f"{share.share:.2f} ({share.lo:.2f}-{share.hi:.2f}), n = {share.n}"


def _pair(first: float | None, second: float | None) -> str:
    return "" if first is None or second is None else f"{first:.2f} / {second:.2f}"


def _alarms(alarms: FalseAlarms | None) -> str:
    if alarms is None or alarms.per_hour is None:
        return ""
    bound = "" if alarms.upper_per_hour is None else f" ({alarms.upper_per_hour:.1f})"
    return f"{alarms.count} in {alarms.hours * 60:.0f} min: {alarms.per_hour:.1f}{bound}"
