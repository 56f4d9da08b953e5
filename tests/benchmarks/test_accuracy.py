"""The suite's table against counts done by hand."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_sdk.benchmarks.accuracy import Remembered, answers, tuned_trivial
from edge_sdk.benchmarks.suite import Decided, SuiteReport, condition_rows, row_of, suite_markdown
from edge_sdk.clips import LabelledClip, Light, SceneKind, SceneRecord
from edge_sdk.evaluation import ClipScores, Guess


def clip(index: int, kind: SceneKind, start_s: float | None, light: Light) -> LabelledClip:
    """A clip of 10 s whose crash, where it has a start, lasts 2 s."""
    end_s = None if start_s is None else start_s + 2.0
    record = SceneRecord(
        name=str(index),
        seed=index,
        generator="2",
        view="dashcam",
        kind=kind,
        scenario="by hand",
        crash=start_s is not None,
        ego_involved=False,
        light=light,
        weather="clear",
        fps=10.0,
        width=320,
        height=192,
        frames=100,
        duration_s=10.0,
        pre_crash_start_s=None,
        crash_start_s=start_s,
        crash_end_s=end_s,
        min_gap_m=None,
        bitrate_kbps=500,
    )
    return LabelledClip(
        path=Path(f"{index}.mp4"),
        view="dashcam",
        crash=start_s is not None,
        start_s=start_s,
        end_s=end_s,
        pre_crash_s=None,
        group=str(index),
        record=record,
    )


def answer(score: float, start_s: float, half_s: float, end_s: float | None) -> ClipScores:
    guess = Guess(start_s=start_s, start_interval_s=(start_s - half_s, start_s + half_s), end_s=end_s)
    return ClipScores(frame_times_s=np.zeros(1), crash=np.zeros(1), score=score, guesses=(guess,), alarms_s=(start_s,))


def decided() -> Decided:
    """Three crashes, of which one is missed; two near misses and one ordinary clip, of which one each is alarmed on."""
    clips = [
        clip(0, "side", 2.0, "day"),
        clip(1, "side", 3.0, "day"),
        clip(2, "rear_end", 4.0, "night"),
        clip(3, "near_miss", None, "night"),
        clip(4, "near_miss", None, "day"),
        clip(5, "normal", None, "day"),
    ]
    found = [
        answer(0.9, 2.1, 0.3, 4.0),
        answer(0.8, 3.5, 0.4, 5.0),
        answer(0.1, 4.0, 0.3, 6.0),
        answer(0.7, 1.0, 0.3, 2.0),
        answer(0.2, 1.0, 0.3, None),
        answer(0.6, 1.0, 0.3, 2.0),
    ]
    detected = np.array([each.score > 0.5 for each in found])
    return Decided(scorer="by hand", threshold=0.5, clips=clips, found=found, detected=detected)


def test_a_row_counts_hits_misses_and_false_alarms() -> None:
    row = row_of(decided())
    assert (row.clips, row.crashes, row.near_misses) == (6, 3, 2)
    assert row.precision == pytest.approx(2 / 4)
    assert row.recall == pytest.approx(2 / 3)
    assert row.f1.value == pytest.approx(2 * 2 / (4 + 3))
    # Ranked 0.9 yes, 0.8 yes, 0.7 no, 0.6 no, 0.2 no, 0.1 yes.
    assert row.clip_ap == pytest.approx((1 + 1 + 3 / 6) / 3)
    assert row.start.n == 2
    assert row.start.mae_s == pytest.approx(0.3)
    assert row.coverage is not None
    assert (row.coverage.hits, row.coverage.n) == (1, 2)


def test_near_misses_are_judged_without_the_ordinary_clips() -> None:
    row = row_of(decided())
    # The alarm on the ordinary clip is left out: 2 hits, 1 false alarm, 3 crashes.
    assert row.near_miss_f1.value == pytest.approx(2 * 2 / (3 + 3))
    assert row.near_miss_f1.lo is not None
    assert row.near_miss_f1.hi is not None
    assert row.near_miss_f1.lo < 2 / 3 < row.near_miss_f1.hi


def test_widths_and_overlaps_are_those_of_detected_crashes() -> None:
    row = row_of(decided())
    assert row.width_median_s == pytest.approx((0.6 + 0.8) / 2)
    # 2.1-4.0 of 2.0-4.0 is 1.9 of 2.0; 3.5-5.0 is 1.5 of 3.0-5.0, 2.0; the third, exact, was not detected.
    detected = 1.9 / 2.0 + 1.5 / 2.0
    assert row.overlap_detected.n == 2
    assert row.overlap_detected.mean_iou == pytest.approx(detected / 2)
    assert row.overlap_all.n == 3
    assert row.overlap_all.mean_iou == pytest.approx(detected / 3)


def test_every_condition_has_its_own_row() -> None:
    rows = {each.condition: each for each in condition_rows(decided())}
    assert list(rows) == ["view dashcam", "light day", "light night", "weather clear"]
    assert rows["light day"].row.recall == 1.0
    assert rows["light day"].row.precision == pytest.approx(2 / 3)
    assert rows["light day"].yes_f1 == pytest.approx(2 * 2 / (4 + 2))
    assert rows["light night"].row.recall == 0.0
    assert rows["light night"].row.f1.value == 0.0
    assert rows["view dashcam"].row == rows["weather clear"].row == row_of(decided())


def test_a_condition_without_a_crash_leaves_open_what_it_does_not_define() -> None:
    everything = decided()
    row = row_of(everything.of(~everything.labels))
    assert (row.recall, row.clip_ap, row.width_median_s, row.coverage) == (None, None, None, None)
    assert row.near_miss_f1.value is None
    assert row.precision == 0.0


def test_the_page_shows_them_and_the_report_is_json() -> None:
    everything = decided()
    report = SuiteReport(
        date_utc="2026-01-01T00:00:00Z",
        commit=None,
        bundle="b",
        bundle_sha256="0" * 64,
        generator="2",
        clips=6,
        crashes=3,
        training_clips=9,
        rows=(row_of(everything),),
        conditions=condition_rows(everything),
        misses=(),
        false_alarms=(),
    )
    assert msgspec.json.decode(msgspec.json.encode(report), type=SuiteReport) == report
    lines = [line for line in suite_markdown(report).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    first = dict(zip(cells[0], cells[1], strict=True))
    assert first["scorer"] == "by hand"
    assert first["near-miss F1"].startswith("0.667 (")
    assert first["its median width s"] == "0.70"
    assert first["mIoU, detected / all"] == "0.85 / 0.57"
    assert [row[0] for row in cells[3:]] == ["view dashcam", "light day", "light night", "weather clear"]


class Counting:
    """Gives the answers of `decided`, and counts how often it looks."""

    name = "counting"

    def __init__(self) -> None:
        self.looks = 0
        self._known = {clip.path: found for clip, found in zip(decided().clips, decided().found, strict=True)}

    def __call__(self, path: Path) -> ClipScores:
        self.looks += 1
        return self._known[path]


def test_a_threshold_is_tuned_on_training_clips_and_every_clip_is_looked_at_once() -> None:
    """Of 0.9 yes, 0.8 yes, 0.7 no the threshold 0.8 is best; it is that of the other clips, too."""
    clips, counting = list(decided().clips), Counting()
    scorer = Remembered(counting)
    [found] = tuned_trivial([scorer], clips[1:], [clips[0], clips[1], clips[3]])
    assert found.threshold == 0.8
    assert found.detected.tolist() == [True, False, False, False, False]
    assert [answer.score for answer in answers(scorer, clips)] == [0.9, 0.8, 0.1, 0.7, 0.2, 0.6]
    assert counting.looks == len(clips)
