"""What the value of a time or an interval is worth beside the words of greedy decoding, on clips whose truth is known.

As a script: `python tests/interval_values.py OUT NAME BUNDLE CLIPS [COUNT]` writes `mini-intervals-NAME.json` and `.md`
to OUT. CLIPS are rendered scenes with their truths; BUNDLE answers at most COUNT of them, once, as `edge-sdk bundle
score` has them answered. Both readings are scored on the same answers, and their difference clip by clip.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from measured import table, write_measured

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.bundle import Bundle
from edge_sdk.clips import read_scenes, read_truths
from edge_sdk.evaluation.report import Measure
from edge_sdk.evaluation.tasks import intervals, parse, pre_crash
from edge_sdk.evaluation.tasks.draws import Draws, Floats, sure
from edge_sdk.evaluation.tasks.scene_answers import scene_answers
from edge_sdk.reasoning.answer import Answer
from edge_sdk.tasks import in_words
from edge_sdk.toolchain.scoring import answer_scenes

# Labels have tenths, which binary numbers miss by a hair.
TOLERANCE = 1e-6
ROUNDS = 4000


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One score of one task: of the words, of the value, and the mean of value minus words over clips."""

    task: str
    score: str
    words: Measure
    value: Measure
    difference: Measure


def compare(said: Sequence[dict[str, Answer]], truths: Sequence[dict[str, str]]) -> list[Row]:
    """Scores of both readings of `said`, one a crash, beside the right answers."""
    draws = Draws.over([str(clip) for clip in range(len(truths))], rounds=ROUNDS, seed=0)
    read = [{task: each.text for task, each in answers.items()} for answers in said]
    valued = [{task: in_words(each.value, each.text) for task, each in answers.items()} for answers in said]
    words, value = _scores(read, truths), _scores(valued, truths)
    return [
        Row(
            task=task,
            score=score,
            words=sure(draws.mean(words[task, score])),
            value=sure(draws.mean(value[task, score])),
            difference=sure(draws.mean(value[task, score] - words[task, score])),
        )
        for task, score in words
    ]


def _scores(answers: Sequence[dict[str, str]], truths: Sequence[dict[str, str]]) -> dict[tuple[str, str], Floats]:
    """By task and score a number a clip."""
    true, said = (np.array([parse.interval(each["crash_interval"]) for each in side]) for side in (truths, answers))
    sign, warned = (np.array([parse.time(each["pre_crash_time"]) for each in side]) for side in (truths, answers))
    overlap = intervals.reference_iou(true, said)
    found = {("crash_interval", "miou"): overlap}
    for level in (0.3, 0.5, 0.7):
        found["crash_interval", f"iou_{level * 100:.0f}"] = (overlap >= level - TOLERANCE).astype(np.float64)
    errors = np.abs(said - true)
    found |= {("crash_interval", "start_mae_s"): errors[:, 0], ("crash_interval", "end_mae_s"): errors[:, 1]}
    found["pre_crash_time", "miou"] = pre_crash.reference_iou(sign, warned, true[:, 0], tolerance_s=TOLERANCE)
    return found | {("pre_crash_time", "mae_s"): np.abs(warned - sign)}


def lines(rows: Sequence[Row], clips: int) -> list[str]:
    """The table, in brackets 95 % bootstrap intervals, of the difference over pairs."""
    cells = [[row.task, row.score, *map(_cell, (row.words, row.value, row.difference))] for row in rows]
    return [f"{clips} clips with a crash.", "", *table("task|score|words|value|value - words", cells)]


def _cell(found: Measure) -> str:
    bounds = "" if found.lo is None or found.hi is None else f" ({found.lo:.3f} to {found.hi:.3f})"
    return f"{found.value:.3f}{bounds}"


def main(out: Path, name: str, bundle: Path, clips: Path, count: int | None) -> None:
    """See the module."""
    watch, truths = Watch(), read_truths(clips)
    said = answer_scenes(Bundle.open(bundle), clips, count=count)
    crashes = [clip for clip in read_scenes(clips) if clip.crash and clip.record and clip.path.name in said]
    right = [scene_answers(clip.record, truths[clip.group]) for clip in crashes if clip.record]
    rows = compare([dict(said[clip.path.name]) for clip in crashes], right)
    title = "The value of a time or an interval beside the words of greedy decoding"
    write_measured(out, f"mini-intervals-{name}", title, watch, rows, lines(rows, len(crashes)))


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        sys.argv[2],
        Path(sys.argv[3]),
        Path(sys.argv[4]),
        *([int(sys.argv[5])] if sys.argv[5:] else [None]),
    )
