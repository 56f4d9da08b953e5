"""`edge-sdk demo`: the main job on the bundle's own clip, with live scores, event, answers and a picture of the truth.

A normal drive follows, on which no event must be confirmed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_sdk.analysis import Analysis, analyze, asked_of, describe
from edge_sdk.bundle import Bundle, default_bundle, open_bundle
from edge_sdk.capture import CaptureSettings, open_source
from edge_sdk.clips import SceneRecord, read_record
from edge_sdk.console import bar, say
from edge_sdk.errors import BundleError
from edge_sdk.events import calibrate
from edge_sdk.explaining import AnswersView
from edge_sdk.files import check_folder
from edge_sdk.perception.operating import points_of
from edge_sdk.perception.recogniser import student_of
from edge_sdk.types import Value
from edge_sdk.unit import Step

STRIP_FRAMES = 8
STRIP_SIZE = (320, 192)
# A rendered drive without a crash, shipped with its record beside the demo bundle, so that every bundle is tested on
# the same drive. Its seed is the first one reserved for testing, outside the suite, that gives a dashcam's normal drive
# on a clear day in at most 150 kB. No student's scores influenced the choice.
QUIET_DRIVE = default_bundle().parent / "quiet.mp4"


class QuietDrive(Value, frozen=True, kw_only=True):
    """The student's result on a normal drive.

    `alarms` counts confirmed events, 0 if the student stays quiet. `highest` is the clip's score and `threshold` the
    score from which an event is confirmed; both are probabilities if the operating point is calibrated. `watched_s` is
    the video watched, in seconds.
    """

    analysis: Analysis
    truth: SceneRecord
    alarms: int
    highest: float
    threshold: float
    watched_s: float


class DemoReport(Value, frozen=True, kw_only=True):
    """The demo's analysis, the clip's truth, the path of the picture, and the result on a normal drive."""

    analysis: Analysis
    truth: SceneRecord
    picture: str
    quiet_drive: QuietDrive


def run_demo(
    bundle: Bundle | Path | None,
    out: Path,
    *,
    device: str = "cpu",
    operating_point: str | None = None,
    quiet: bool = False,
) -> DemoReport:
    """Analyse the bundle's demo clip, ask every task it answers, draw `out/timeline.png`, and watch a normal drive.

    Raises `BundleError` if there is no demo clip, `ConfigError` if `out` cannot be a folder, and what `analyze` raises.
    """
    from edge_sdk.picture import draw_timeline

    check_folder(out)
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    clip = opened.manifest.demo
    if clip is None:
        raise BundleError(f"bundle {opened.manifest.name!r} has no demo clip; use `edge-sdk analyze CLIP`")
    video, truth = opened.path(clip.video), read_record(opened.path(clip.record))
    with AnswersView(asked_of(opened, None)) as view:
        found = analyze(
            video,
            opened,
            device=device,
            operating_point=operating_point,
            tasks=None,
            on_step=None if quiet else show_step,
            on_watched=None if quiet else lambda each: show_student(each.analysis, truth),
            on_spoken=None if quiet else view,
        )
    out.mkdir(parents=True, exist_ok=True)
    picture = out / "timeline.png"
    draw_timeline(found, truth, film_strip(video), picture)
    if not quiet:
        say(f"picture: {picture}")
    drive = watch_quiet_drive(opened, device=device, operating_point=operating_point)
    if not quiet:
        say(describe_quiet_drive(drive))
    return DemoReport(analysis=found.analysis, truth=truth, picture=str(picture), quiet_drive=drive)


def watch_quiet_drive(
    bundle: Bundle, clip: Path = QUIET_DRIVE, *, device: str = "cpu", operating_point: str | None = None
) -> QuietDrive:
    """Let the student of `bundle` watch `clip`, whose record lies beside it. Raises what `analyze` raises."""
    found = analyze(clip, bundle, device=device, operating_point=operating_point)
    student, crash = student_of(bundle), found.analysis.crash
    point = points_of(student)[crash.operating_point]
    return QuietDrive(
        analysis=found.analysis,
        truth=read_record(clip.with_suffix(".json")),
        alarms=len(found.alarms_s),
        highest=crash.score,
        threshold=calibrate(point.confirm, point),
        watched_s=round(found.analysis.frames.analysed / student.rate_hz, 3),
    )


def describe_quiet_drive(drive: QuietDrive) -> str:
    """Describe the drive in one line for people; any event is called false."""
    alarms = "no event" if drive.alarms == 0 else f"{drive.alarms} event{'s' * (drive.alarms > 1)}, none of them true"
    kind = "probability" if drive.analysis.crash.calibrated else "score"
    return (
        f"a normal drive ({drive.truth.view}, {drive.truth.scenario}): {alarms}; highest {kind} {drive.highest:.2f}, "
        f"an event takes {drive.threshold:.2f}; {drive.watched_s:.1f} s watched"
    )


def show_student(analysis: Analysis, truth: SceneRecord) -> None:
    """Print what the student found, and the truth."""
    say("")
    for event in analysis.events:
        say(msgspec.json.format(event.to_json(), indent=2))
    say(describe(analysis))
    span = f"crash {truth.crash_start_s}-{truth.crash_end_s} s" if truth.crash else "no crash"
    say(f"truth: {truth.scenario}, {span}")


def show_step(step: Step) -> None:
    """Print one live line: time, scores, events of this step. On a terminal it is redrawn in place."""
    scores = step.scores
    news = " ".join(event.state.upper() for event in step.events)
    curves = f"crash {bar(scores.crash)} {scores.crash:.2f}  pre-crash {scores.pre_crash:.2f}"
    line = f"{scores.time_s:6.2f} s  {curves}  {news}"
    if sys.stdout.isatty():
        sys.stdout.write(f"\r\x1b[K{line}" + ("\n" if news else ""))
        sys.stdout.flush()
    elif news or step.frame.sequence % 10 == 0:
        say(line.rstrip())


def film_strip(video: Path) -> list[tuple[float, NDArray[np.uint8]]]:
    """Return `STRIP_FRAMES` RGB frames spread over the clip, each with its time in seconds."""
    settings = CaptureSettings(width=STRIP_SIZE[0], height=STRIP_SIZE[1], rate_hz=10.0, pixels="rgb")
    with open_source(str(video), settings) as source:
        frames = [(frame.time_s, frame.pixels) for frame in source]
    wanted = np.linspace(0, len(frames) - 1, STRIP_FRAMES).round().astype(int)
    return [frames[index] for index in wanted]
