"""Analyse a whole file: whether and when there was a crash, what the video LLM says of it, and what that cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.capture import refuse_live
from edge_sdk.events import Answer, Event, calibrate
from edge_sdk.explaining import (
    Explanation,
    ReasonerSettings,
    ReasoningReport,
    Spoken,
    ask_file,
    language_of,
    profile_of,
    tasks_of,
)
from edge_sdk.perception.timeline import FrameScores
from edge_sdk.registry import DEFAULT_RUNTIME
from edge_sdk.types import Value
from edge_sdk.unit import Step, Unit

BOUNDARIES = ("pre_crash_start", "crash_start", "crash_end")


class SourceReport(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The analysed file. `start_time_s` is the container's offset of the first decoded frame."""

    uri: str
    duration_s: float | None
    start_time_s: float


class CrashReport(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Whether a crash was confirmed at the student's operating point, and the highest score of the clip.

    `calibrated`: the score is the probability of a crash; false for a file that has fewer pictures per second than the
    student is made for.
    """

    detected: bool
    score: float
    calibrated: bool
    operating_point: str


class FrameCounts(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Frames decoded, given to the student, and dropped or repeated to reach the student's rate."""

    decoded: int
    analysed: int
    dropped: int
    repeated: int = 0


class Quantiles(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Median and 95th percentile in ms; null if nothing was measured."""

    p50: float | None
    p95: float | None


class Latency(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Time per frame: `decode` waits for the decoded frame, `student` makes the planes and runs the student."""

    decode: Quantiles
    student: Quantiles


class BundleReport(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The bundle that answered."""

    name: str
    sha256: str


class Analysis(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What `edge-sdk analyze --json` prints. `events` holds the last revision of each event.

    `answers` are the video LLM's answers about the whole clip, by task. `reasoning_ms` is the time they took (vision,
    prefill, after_last_frame and decode); `reasoning` adds the frames, the tokens kept and the memory. All three are
    null if nothing was asked. If exactly one event was not rejected, it carries the answers too. `warnings` say what
    was wrong with the file.
    """

    schema: int = 1
    source: SourceReport
    crash: CrashReport
    events: tuple[Event, ...]
    frames: FrameCounts
    latency_ms: Latency
    answers: dict[str, Answer] | None = None
    reasoning_ms: dict[str, float] | None = None
    reasoning: ReasoningReport | None = None
    bundle: BundleReport
    warnings: tuple[str, ...] = ()


class AnalysedClip(NamedTuple):
    """An analysis, the scores behind it, and the times of the frames that confirmed an event.

    `evidence` is the probability of a crash that answers of the video LLM may use, None if the score is not a
    probability. `slow`: it is none because the file has fewer pictures per second than the student is made for.
    """

    analysis: Analysis
    scores: list[FrameScores]
    alarms_s: tuple[float, ...]
    evidence: float | None
    slow: bool


def analyze(
    clip: str | Path,
    bundle: Bundle | str | Path | None = None,
    *,
    runtime: str = DEFAULT_RUNTIME,
    threads: int = 1,
    device: str = "cpu",
    operating_point: str | None = None,
    tasks: Sequence[str] | None = (),
    reasoning: ReasonerSettings | None = None,
    deadline_s: float | None = None,
    on_step: Callable[[Step], None] | None = None,
    on_watched: Callable[[AnalysedClip], object] | None = None,
    on_spoken: Callable[[Spoken], object] | None = None,
) -> AnalysedClip:
    """Run the student over the whole of `clip`, ask the video LLM `tasks`, by default none, and report.

    `tasks=None` asks every task that the bundle answers, which may be none. `operating_point` is as for `Unit`.
    `reasoning` says how the video LLM may use the machine, by default as the student does. `deadline_s` counts from
    when the student is done, as in `explain_file`. `on_step` receives each frame's step, `on_watched` what the student
    found once it is done, and `on_spoken` what the video LLM says as it is generated. Raises `ConfigError` for a live
    source, which has no end; `SourceError` or `BundleError` as opening does; `BundleError` for tasks that the bundle
    does not answer; `UnknownNameError` for a profile that it does not have; and what the reasoner raises.
    """
    refuse_live(clip)
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    asked = asked_of(opened, tasks)
    settings = reasoning or ReasonerSettings(runtime=runtime, threads=threads, device=device)
    if asked:
        profile_of(language_of(opened), settings)  # raises for a bad profile before time is spent on the clip
    unit = Unit(clip, opened, runtime=runtime, threads=threads, device=device, operating_point=operating_point)
    found = _watch(unit, on_step)
    if on_watched is not None:
        on_watched(found)
    if not asked:
        return found
    explained = ask_file(
        opened,
        clip,
        asked,
        settings=settings,
        events=found.analysis.events,
        evidence=found.evidence,
        deadline_s=deadline_s,
        on_spoken=on_spoken,
    )
    return found._replace(analysis=_answered(found.analysis, explained))


def asked_of(bundle: Bundle, tasks: Sequence[str] | None) -> tuple[str, ...]:
    """The tasks that `tasks` of `analyze` stands for with this `bundle`.

    None stands for every task, or for no task if the bundle has no language part. Raises `BundleError` and
    `UnknownNameError`.
    """
    if tasks is None and bundle.manifest.language is None:
        return ()
    return tasks_of(language_of(bundle), tasks) if tasks is None or tasks else ()


def _watch(opened: Unit, on_step: Callable[[Step], None] | None) -> AnalysedClip:
    with opened as unit:
        steps: list[tuple[FrameScores, float, float]] = []
        last: dict[str, Event] = {}
        alarms_s: list[float] = []
        for step in unit.steps():
            steps.append((step.scores, step.decode_ms, step.student_ms))
            last.update((event.id, event) for event in step.events)
            alarms_s.extend(step.scores.time_s for event in step.events if event.state == "confirmed")
            if on_step is not None:
                on_step(step)
        last.update((event.id, event) for event in unit.finish())
        point, stats, slow = unit.student.operating_point, unit.stats, unit.streams[0].feeder.slow
        events = tuple(last.values())
        report = Analysis(
            source=SourceReport(
                uri=unit.info.uri, duration_s=unit.info.duration_s, start_time_s=unit.info.start_time_s
            ),
            crash=CrashReport(
                detected=any(event.state != "rejected" for event in events),
                score=calibrate(unit.peak_score, point),
                calibrated=point.calibrated and slow is None,
                operating_point=point.name,
            ),
            events=events,
            frames=FrameCounts(
                decoded=stats.decoded, analysed=len(steps), dropped=stats.dropped, repeated=stats.repeated
            ),
            latency_ms=Latency(
                decode=quantiles([decode for _, decode, _ in steps]),
                student=quantiles([student for _, _, student in steps]),
            ),
            bundle=BundleReport(name=unit.bundle.manifest.name, sha256=unit.bundle.sha256),
            warnings=stats.warnings,
        )
    scores = [scores for scores, _, _ in steps]
    evidence = report.crash.score if report.crash.calibrated else None
    return AnalysedClip(report, scores, tuple(alarms_s), evidence, slow is not None)


def _answered(analysis: Analysis, explained: Explanation) -> Analysis:
    """`analysis` with the answers; if exactly one event was not rejected, it carries them as well."""
    events, kept = analysis.events, [event for event in analysis.events if event.state != "rejected"]
    if len(kept) == 1:
        answered = msgspec.structs.replace(kept[0], reasoning=explained.answers)
        events = tuple(answered if event is kept[0] else event for event in events)
    return msgspec.structs.replace(
        analysis,
        events=events,
        answers=explained.answers,
        reasoning_ms=explained.report.ms,
        reasoning=explained.report,
    )


def describe(report: Analysis) -> str:
    """The analysis as a few lines of text for people."""
    verdict = "crash" if report.crash.detected else "no crash"
    kind = "probability of a crash" if report.crash.calibrated else "score of a crash, not calibrated:"
    lines = [f"{report.source.uri}: {verdict} ({kind} {report.crash.score:.3f})"]
    for event in report.events:
        spans = [(name.replace("_", "-"), getattr(event.timeline, name)) for name in BOUNDARIES]
        found = "; ".join(f"{name} {e.t:.2f} s ({e.lo:.2f}-{e.hi:.2f})" for name, e in spans if e is not None)
        lines.append(f"  {event.state} event, score {event.score:.3f}: {found}")
    frames, latency = report.frames, report.latency_ms
    repeated = f", {frames.repeated} of them repeats" if frames.repeated else ""
    lines.append(
        f"  {frames.decoded} frames decoded, {frames.analysed} frames analysed{repeated}; per frame p50/p95: "
        f"decode {latency.decode.p50}/{latency.decode.p95} ms, student {latency.student.p50}/{latency.student.p95} ms"
    )
    return "\n".join(lines)


def quantiles(samples_ms: list[float]) -> Quantiles:
    """Median and 95th percentile, linear between samples."""
    if not samples_ms:
        return Quantiles(p50=None, p95=None)
    p50, p95 = np.percentile(samples_ms, [50, 95])
    return Quantiles(p50=round(float(p50), 3), p95=round(float(p95), 3))
