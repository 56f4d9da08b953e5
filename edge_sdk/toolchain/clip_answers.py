"""Answers of a bundle about whole clips, in the form of a predictions file.

The student watches each clip as in `analyze`. One reasoner process stays open and answers for all clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from edge_sdk.analysis import AnalysedClip, analyze
from edge_sdk.bundle import Bundle
from edge_sdk.capture import CaptureSettings, open_source
from edge_sdk.evaluation.tasks import AnsweredBy, VideoAnswers
from edge_sdk.events import Answer, Event
from edge_sdk.explaining import ReasonerProcess, ReasonerSettings, answers_of, explain_file, tasks_of
from edge_sdk.perception.recogniser import student_of
from edge_sdk.reasoning import answer as spoken
from edge_sdk.tasks import in_words

# The tasks that a student answers without a video LLM.
STUDENT_TASKS = ("recognition", "crash_interval", "pre_crash_time")


class ClipAnswerer:
    """Asks a bundle about clips. Use it as a context manager.

    `tasks` are those that the bundle answers: its video LLM's, or the student's three if it has no language part. `by`
    says who answers. `watches` says whether there is a student, which gives alarms. `warnings` are about the files.
    """

    def __init__(self, bundle: Bundle, settings: ReasonerSettings | None = None) -> None:
        """Start nothing yet. Raises `BundleError` for a bundle that has neither a student nor a language part."""
        self._bundle, self._settings = bundle, settings or ReasonerSettings()
        language = bundle.manifest.language
        if language is None:
            student_of(bundle)
        self.tasks = STUDENT_TASKS if language is None else tasks_of(language)
        self.watches = bundle.manifest.student is not None
        self.warnings: list[str] = []
        self._process = None if language is None else ReasonerProcess(bundle, self._settings)
        self.by = AnsweredBy(
            bundle=bundle.manifest.name,
            bundle_sha256=bundle.sha256,
            runtime=self._settings.runtime,
            device=self._settings.device,
            tasks_by="student" if language is None else "video LLM",
        )

    def answer(self, clip: Path, tasks: Sequence[str]) -> VideoAnswers:
        """Return the bundle's answers to `tasks` about `clip`, with its alarms and a probability of a crash.

        The probability is that of the student and the video LLM together if they answer together, else the student's if
        that is calibrated, else the video LLM's. Raises what `analyze` and `explain_file` raise.
        """
        watched = self._watch(clip) if self.watches else None
        said = self._ask(clip, tasks, watched)
        verdict = said.get("recognition")
        probability = crash_probability(verdict)
        # object: texts, times and the answerer, which `convert` tells apart.
        row: dict[str, object] = {task: in_words(answer.value, answer.text) for task, answer in said.items()}
        if watched is None:
            row["duration_s"] = _duration_s(clip)
        else:
            if watched.analysis.crash.calibrated and not (verdict is not None and verdict.with_student):
                probability = watched.analysis.crash.score
            row |= {"alarms_s": watched.alarms_s, "duration_s": watched.analysis.source.duration_s}
        if watched is not None and self._process is None:
            found = student_answers(watched.analysis.events)
            row |= {task: found[task] for task in tasks}
        return msgspec.convert(row | {"crash_probability": probability, "answered_by": self.by}, VideoAnswers)

    def close(self) -> None:
        """End the reasoner's process."""
        if self._process is not None:
            self._process.close()

    def __enter__(self) -> ClipAnswerer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _watch(self, clip: Path) -> AnalysedClip:
        own = self._settings
        watched = analyze(clip, self._bundle, runtime=own.runtime, threads=own.threads, device=own.device)
        self.warnings += [f"{clip.name}: {each}" for each in watched.analysis.warnings]
        return watched

    def _ask(self, clip: Path, tasks: Sequence[str], watched: AnalysedClip | None) -> dict[str, Answer]:
        if self._process is None or not tasks:
            return {}
        if watched is None:
            return answers_of(list(explain_file(self._process, clip, tasks)))
        events, score = watched.analysis.events, watched.evidence
        return answers_of(list(explain_file(self._process, clip, tasks, events=events, evidence=score)))


def student_answers(events: Sequence[Event]) -> dict[str, str]:
    """Answer the student's three tasks in CrashChat's words, from its event with the highest score.

    Rejected events do not count. Without an event, recognition is "No" and both times are empty. A time that the event
    lacks is empty too.
    """
    kept = [event for event in events if event.state != "rejected"]
    if not kept:
        return {"recognition": "No", "crash_interval": "", "pre_crash_time": ""}
    found = max(kept, key=lambda event: event.score).timeline
    sign, start, end = found.pre_crash_start, found.crash_start, found.crash_end
    return {
        "recognition": "Yes",
        "crash_interval": "" if start is None or end is None else in_words((start.t, end.t), ""),
        "pre_crash_time": "" if sign is None else in_words(sign.t, ""),
    }


def crash_probability(verdict: Answer | spoken.Answer | None) -> float | None:
    """Return the probability of a crash that an answer to recognition implies; None if it has no probability."""
    if verdict is None or verdict.probability is None:
        return None
    return verdict.probability if verdict.value else 1 - verdict.probability


def _duration_s(clip: Path) -> float | None:
    with open_source(str(clip), CaptureSettings(width=16, height=16)) as source:
        return source.info.duration_s
