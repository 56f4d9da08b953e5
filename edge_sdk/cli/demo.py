"""The main job on the bundle's own clip: live scores, the event, the answers, and a picture beside the truth."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_sdk.analysis import Analysis, analyze, asked_of, describe
from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.capture import CaptureSettings, open_source
from edge_sdk.clips import SceneRecord, read_record
from edge_sdk.console import bar, say
from edge_sdk.errors import BundleError
from edge_sdk.explaining import AnswersView
from edge_sdk.files import check_folder
from edge_sdk.types import Value
from edge_sdk.unit import Step

STRIP_FRAMES = 8
STRIP_SIZE = (320, 192)


class DemoReport(Value, frozen=True, kw_only=True):
    """What the demo found, what was true, and where the picture is."""

    analysis: Analysis
    truth: SceneRecord
    picture: str


def run_demo(
    bundle: Bundle | Path | None,
    out: Path,
    *,
    device: str = "cpu",
    operating_point: str | None = None,
    quiet: bool = False,
) -> DemoReport:
    """Analyse the bundle's demo clip, ask all that the bundle answers, and draw `out/timeline.png`.

    Raises `BundleError` where there is no demo clip, `ConfigError` where `out` cannot be a folder, and what `analyze`
    raises.
    """
    from edge_sdk.picture import draw_timeline

    check_folder(out)
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    clip = opened.manifest.demo
    if clip is None:
        raise BundleError(f"bundle {opened.manifest.name!r} carries no demo clip; use `edge-sdk analyze CLIP`")
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
    return DemoReport(analysis=found.analysis, truth=truth, picture=str(picture))


def show_student(analysis: Analysis, truth: SceneRecord) -> None:
    """What the student has found, and what was true."""
    say("")
    for event in analysis.events:
        say(msgspec.json.format(event.to_json(), indent=2))
    say(describe(analysis))
    span = f"crash {truth.crash_start_s}-{truth.crash_end_s} s" if truth.crash else "no crash"
    say(f"truth: {truth.scenario}, {span}")


def show_step(step: Step) -> None:
    """One live line: time, crash score, what just happened. On a terminal it is redrawn in place."""
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
    """`STRIP_FRAMES` colour pictures spread over the clip, each with its time in seconds."""
    settings = CaptureSettings(width=STRIP_SIZE[0], height=STRIP_SIZE[1], rate_hz=10.0, pixels="rgb")
    with open_source(str(video), settings) as source:
        frames = [(frame.time_s, frame.pixels) for frame in source]
    wanted = np.linspace(0, len(frames) - 1, STRIP_FRAMES).round().astype(int)
    return [frames[index] for index in wanted]
