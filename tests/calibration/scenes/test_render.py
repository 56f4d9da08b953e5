"""Drawing and encoding of tiny clips, with a real EGL context and encoder."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scene_needs import need_drawing, need_encoding

from edge_sdk.calibration.scenes import GENERATOR_VERSION, encode
from edge_sdk.calibration.scenes.boxes import CRASHED
from edge_sdk.calibration.scenes.encode import encoder
from edge_sdk.calibration.scenes.film import shoot
from edge_sdk.calibration.scenes.plan import ScenePlan, plan_scene
from edge_sdk.calibration.scenes.render import Job, Progress, expected_record, render
from edge_sdk.calibration.scenes.truth import write_truths
from edge_sdk.clips import read_scenes
from edge_sdk.errors import ConfigError, EdgeError

SIZE = (160, 96)
# Seeds of this generator version; the last one's camera sees at the full rate of its stream.
NIGHT_CRASH, DAY_DASHCAM, SMOOTH_DASHCAM = 15, 4, 12


@pytest.fixture(scope="module", autouse=True)
def _egl() -> None:
    need_drawing()


def clip(plan: ScenePlan, fps: float, count: int) -> np.ndarray:
    return np.array([shot.image for shot in islice(shoot(plan, fps, SIZE), count)])


@pytest.mark.parametrize("seed", [NIGHT_CRASH, DAY_DASHCAM])
def test_the_same_seed_gives_the_same_frames(seed: int) -> None:
    plan = plan_scene(seed)
    first, second = clip(plan, 10.0, 6), clip(plan, 10.0, 6)
    assert first.shape == (6, SIZE[1], SIZE[0], 3)
    assert np.array_equal(first, second)
    assert 15 < first.mean() < 240
    assert first.std() > 8
    assert np.abs(first[0].astype(int) - first[-1]).mean() > 0.3


def test_the_frame_rate_does_not_change_the_scene() -> None:
    """Only the sensor's noise may differ between frames of one moment."""
    plan = plan_scene(SMOOTH_DASHCAM)
    slow, fast = clip(plan, 10.0, 3), clip(plan, 30.0, 7)
    assert np.abs(slow.astype(int) - fast[::3]).mean() < 6.0
    assert np.abs(slow[1].astype(int) - fast[0]).mean() > np.abs(slow[1].astype(int) - fast[3]).mean()


def test_boxes_follow_the_cars() -> None:
    plan = plan_scene(DAY_DASHCAM)
    assert plan.times is not None
    shots = list(islice(shoot(plan, 10.0, SIZE), int(plan.times.crash_start_s * 10) + 1))
    boxes = shots[-1].boxes
    crashed = boxes[(boxes[:, 5] == CRASHED) & (boxes[:, 4] == 1)]
    assert len(crashed) >= 1
    assert (boxes[boxes[:, 4] == 1, 2:4] > boxes[boxes[:, 4] == 1, 0:2]).all()
    assert boxes[:, :4].min() >= 0
    assert boxes[:, :4].max() <= 1


def test_render_writes_resumes_and_reports(tmp_path: Path) -> None:
    need_encoding()
    reports: list[Progress] = []
    records = render([DAY_DASHCAM], tmp_path, fps=5.0, size=SIZE, jobs=1, on_progress=reports.append)
    assert [report.done for report in reports] == [1]
    assert reports[0].remaining_s == 0.0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "scene_00000004.boxes.npy",
        "scene_00000004.json",
        "scene_00000004.mp4",
    ]
    (labelled,) = read_scenes(tmp_path)
    assert labelled.record == records[0]
    assert expected_record(Job(DAY_DASHCAM, tmp_path, 5.0, SIZE)) == records[0]
    assert records[0].generator == GENERATOR_VERSION
    assert labelled.start_s == records[0].crash_start_s
    before = labelled.path.stat().st_mtime_ns
    assert render([DAY_DASHCAM], tmp_path, fps=5.0, size=SIZE, jobs=1) == records
    assert labelled.path.stat().st_mtime_ns == before


def test_a_killed_run_leaves_no_process_behind(tmp_path: Path) -> None:
    script = tmp_path / "many.py"
    script.write_text(
        "from pathlib import Path\nfrom edge_sdk.calibration.scenes.render import render\n"
        f"if __name__ == '__main__':\n    render(range(500), Path({str(tmp_path)!r}), size={SIZE}, jobs=2)\n"
    )
    with subprocess.Popen([sys.executable, str(script)], start_new_session=True) as run:
        until(lambda: len(members(run.pid)) >= 3 and list(tmp_path.glob("*.json")), 60)
        run.kill()
    until(lambda: not members(run.pid), 20)


def members(session: int) -> list[str]:
    """The states of its processes, of those that have not ended."""
    stats = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            stats.append(place.read_text(errors="replace").rpartition(")")[2].split())
    return [stat[0] for stat in stats if stat[3] == str(session) and stat[0] != "Z"]


def until(ready, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


def test_parts_fly_only_after_a_contact() -> None:
    from edge_sdk.calibration.scenes.debris import draw_parts
    from edge_sdk.calibration.scenes.streams import stream

    plan = plan_scene(DAY_DASHCAM)
    parts = draw_parts(stream(plan.seed, "debris"), plan.track)
    assert all(part.place(part.start_s - 0.01)[2] < 0 < part.place(part.start_s + 0.01)[2] for part in parts)
    calm = dataclasses.replace(plan.track, contacts=())
    assert draw_parts(stream(plan.seed, "debris"), calm) == []


@pytest.mark.parametrize(
    ("seeds", "options", "field"),
    [([1, 1], {}, "seeds"), ([1], {"fps": 0.0}, "fps"), ([1], {"size": (100, 96)}, "size"), ([1], {"jobs": 0}, "jobs")],
)
def test_bad_requests_name_the_argument(seeds: list[int], options: dict, field: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=field):
        render(seeds, tmp_path, **options)


def test_a_failing_encoder_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    need_encoding()
    with pytest.raises(EdgeError, match=r"encoder failed on .*clip\.mp4: .*ERROR"):
        feed(tmp_path / "clip.mp4", 0, 50)
    assert not any(tmp_path.iterdir())


def test_an_encoder_that_takes_nothing_any_more_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_encoding()
    monkeypatch.setattr(encode, "PATIENCE_S", 2.0)
    monkeypatch.setattr(encode, "_LEAVE_S", 0.5)
    started: list[subprocess.Popen[bytes]] = []

    class Stopped(subprocess.Popen[bytes]):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            self.send_signal(signal.SIGSTOP)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Stopped)
    begun_s = time.monotonic()
    with pytest.raises(EdgeError, match=r"encoder failed on .*clip\.mp4"):
        feed(tmp_path / "clip.mp4", SIZE[0], 50)
    assert time.monotonic() - begun_s < 30
    assert started[0].returncode is not None
    assert not any(tmp_path.iterdir())


def test_an_encoder_that_complains_at_length_does_not_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the 64 KiB that a pipe holds."""
    need_encoding()
    monkeypatch.setenv("GST_DEBUG", "6")
    feed(tmp_path / "clip.mp4", SIZE[0], 20)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def feed(path: Path, width: int, count: int) -> None:
    with encoder(path, (width, SIZE[1]), 10.0, 200, 30) as film:
        for _ in range(count):
            film.write(np.zeros((SIZE[1], SIZE[0], 3), np.uint8))


@pytest.mark.parametrize("name", ["mp4", "json"])
def test_a_clip_that_a_power_cut_emptied_is_rendered_again(name: str, tmp_path: Path) -> None:
    need_encoding()
    (record,) = render([DAY_DASHCAM], tmp_path, size=SIZE)
    lost = tmp_path / f"{record.name}.{name}"
    whole = lost.read_bytes()
    lost.write_bytes(b"")
    for name, age_s in (("left", 400), ("elsewhere", 0)):
        half = tmp_path / f".{name}.tmp-999999999-0123abcd.json"
        half.write_text("{")
        os.utime(half, (time.time() - age_s,) * 2)
    render([DAY_DASHCAM], tmp_path, size=SIZE)
    assert lost.stat().st_size == len(whole)
    assert len(list(tmp_path.iterdir())) == 4
    assert [path.name for path in tmp_path.glob(".*")] == [".elsewhere.tmp-999999999-0123abcd.json"]
    assert [clip.path.stem for clip in read_scenes(tmp_path)] == [record.name]
    assert list(write_truths(tmp_path)) == [record.name]
