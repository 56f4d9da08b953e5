"""Evaluate a model's answers against annotations: six tasks, alarms, calibration, and the best blind answers beside.

The bootstrap's groups are videos. If crashes and other clips have no data set in common, as in CrashChat's own files, a
note says so: the model may then recognise the data set instead of crashes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from edge_sdk.clips import SceneRecord, read_record
from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.tasks import alarms, blind, parse
from edge_sdk.evaluation.tasks.annotations import Annotations, read_annotations
from edge_sdk.evaluation.tasks.calibration import Calibration, calibration
from edge_sdk.evaluation.tasks.draws import Draws
from edge_sdk.evaluation.tasks.judges import Asked
from edge_sdk.evaluation.tasks.lines import Conditions, parts, task_report
from edge_sdk.evaluation.tasks.predictions import VideoAnswers, read_predictions
from edge_sdk.evaluation.tasks.report import AlarmReport, TasksReport
from edge_sdk.tasks import TASK_IDS, find_task


def evaluate_files(
    annotations: Path,
    predictions: Path | Callable[[Annotations], Mapping[str, VideoAnswers]],
    *,
    constants_from: Path | None = None,
    records: Path | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> TasksReport:
    """Run `evaluate_tasks` on files. `records` is a folder of scene records, for conditions and lengths.

    `predictions` is a file of answers, or a function that answers the annotated videos; it is called after all other
    files have been read. Raises `ConfigError` for a file that does not fit, `MissingDependencyError` without the
    packages of `[evaluate]`.
    """
    _check_seed(seed)
    truth = read_annotations(annotations)
    fitted = None if constants_from is None else read_annotations(constants_from)
    known = {} if records is None else _records_of(truth, records)
    said = read_predictions(predictions) if isinstance(predictions, Path) else predictions(truth)
    said = {video: _with_length(row, known.get(video)) for video, row in said.items()}
    conditions = {
        video: {"view": record.view, "light": record.light, "weather": record.weather}
        for video, record in known.items()
    }
    return evaluate_tasks(truth, said, fitted=fitted, conditions=conditions, bootstrap=bootstrap, seed=seed)


def evaluate_tasks(
    annotations: Annotations,
    predictions: Mapping[str, VideoAnswers],
    *,
    fitted: Annotations | None = None,
    conditions: Conditions | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> TasksReport:
    """Score every task that was answered for at least one annotated video.

    Blind answers are chosen on `fitted` (None: on `annotations`, which gives an upper bound). Raises `ConfigError` if
    no annotated video has an answer, an alarm or a probability in the predictions, and for a negative seed.
    """
    _check_seed(seed)
    chosen = blind.choose(fitted or annotations)
    known = _with_sources(annotations, conditions or {})
    asked = [each for task in TASK_IDS if (each := _ask(task, annotations, predictions, bootstrap, seed))]
    watched = _alarms(annotations, predictions, known)
    probable = _calibration(annotations, predictions, bootstrap, seed)
    if not asked and not watched and probable is None:
        raise ConfigError(
            "no annotated video has an answer to an annotated task, an alarm or a probability; names are compared "
            "without folders"
        )
    return TasksReport(
        seed=seed,
        bootstrap=bootstrap,
        videos=len(annotations.videos),
        unknown=len(set(predictions) - set(annotations.videos)),
        tasks=tuple(task_report(each, chosen, known) for each in asked),
        alarms=watched,
        calibration=probable,
        notes=(
            *_notes(annotations, fitted is None, bootstrap),
            *_length_notes(annotations, predictions),
            *_unread_notes(annotations, predictions),
            *_answerer_notes(predictions),
        ),
    )


def _ask(
    task: str, annotations: Annotations, predictions: Mapping[str, VideoAnswers], rounds: int, seed: int
) -> Asked | None:
    """Collect truths and answers of the task for its labelled videos; None if no answer was given."""
    truths, spans = annotations.of(task), annotations.of("crash_interval")
    videos = tuple(sorted(truths))
    rows = [predictions.get(video) or VideoAnswers() for video in videos]
    if all(row.answer(task) is None for row in rows):
        return None
    if find_task(task).form == "time" and not spans:
        raise ConfigError(f"{task} is scored against the crash's start: give the annotations of crash_interval as well")
    return Asked(
        task=task,
        videos=videos,
        truths=tuple(truths[video].answer for video in videos),
        answers=tuple(row.answer(task) for row in rows),
        spans=tuple(spans[video].answer if video in spans else None for video in videos),
        own=tuple(row.scores.get(task, {}) for row in rows),
        draws=Draws.over(videos, rounds=rounds, seed=seed),
    )


def _alarms(
    annotations: Annotations, predictions: Mapping[str, VideoAnswers], conditions: Conditions
) -> tuple[AlarmReport, ...]:
    """Report the alarms of all annotated clips with alarms or a verdict, then by condition.

    A clip of unknown length does not count for the rate of false alarms, but a crash still counts for the delay.
    """
    watched, left_out = {}, 0
    for video in annotations.videos:
        row, crash = predictions.get(video), annotations.crash(video)
        if row is None or crash is None or (row.alarms_s is None and row.recognition is None):
            continue
        clip = _watched(annotations, video, row, crash)
        if clip is None:
            left_out += 1
        else:
            watched[video] = clip
    if not watched:
        return ()
    clips, reports = list(watched.values()), []
    for name, chosen in [("all", list(range(len(clips)))), *parts(list(watched), conditions)]:
        some = [clips[i] for i in chosen]
        rate, delay = alarms.false_alarms(some), alarms.detection_delay(some)
        reports.append(AlarmReport(name=name, clips=len(some), false_alarms=rate, delay=delay))
    return (msgspec.structs.replace(reports[0], left_out=left_out), *reports[1:])


def _watched(annotations: Annotations, video: str, row: VideoAnswers, crash: bool) -> alarms.Watched | None:
    """Convert a clip for the alarm metrics; None if it can count neither for the rate nor for the delay."""
    span = annotations.interval_s(video)
    if crash and span is None:
        return None
    if row.duration_s is None and (not crash or row.alarms_s is None):
        return None
    return alarms.Watched(
        duration_s=row.duration_s,
        alarms_s=row.alarms_s,
        claimed=parse.yes_no(row.recognition or "") is True,
        crash_s=span[0] if crash and span is not None else None,
        sign_s=annotations.sign_s(video) if crash else None,
    )


def _calibration(
    annotations: Annotations, predictions: Mapping[str, VideoAnswers], rounds: int, seed: int
) -> Calibration | None:
    """Compute the calibration over the annotated clips that have a probability; None if there are none."""
    rows = [(video, annotations.crash(video), predictions.get(video)) for video in annotations.videos]
    known = [
        (video, crash, row.crash_probability)
        for video, crash, row in rows
        if crash is not None and row is not None and row.crash_probability is not None
    ]
    if not known:
        return None
    videos, truth, said = zip(*known, strict=True)
    return calibration(truth, said, Draws.over(videos, rounds=rounds, seed=seed))


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise ConfigError(f"the seed of the bootstrap must be a whole number of at least 0, found {seed}")


def _records_of(truth: Annotations, folder: Path) -> dict[str, SceneRecord]:
    """Read the scene records of the annotated videos that have one. Raises `ConfigError` if none has."""
    records = {path.stem: read_record(path) for path in sorted(folder.glob("[!.]*.json"))}
    found = {video: records[stem] for video in truth.videos if (stem := Path(video).stem) in records}
    if not found:
        raise ConfigError(f"{folder} holds no scene record (NAME.json) of an annotated video (NAME.mp4)")
    return found


def _with_length(row: VideoAnswers, record: SceneRecord | None) -> VideoAnswers:
    """Add the record's length to a row that has no length."""
    if record is None or row.duration_s is not None:
        return row
    return msgspec.structs.replace(row, duration_s=record.duration_s)


def _with_sources(annotations: Annotations, conditions: Conditions) -> dict[str, dict[str, str]]:
    """Return the conditions of every video, including its data set."""
    sources = annotations.sources
    return {
        video: ({"source": sources[video]} if sources[video] else {}) | dict(conditions.get(video, {}))
        for video in annotations.videos
    }


def _notes(annotations: Annotations, same: bool, rounds: int) -> Iterator[str]:
    yield f"In brackets: 95 % intervals from {rounds} bootstrap rounds over videos; the paper gives none."
    yield "The paper's lines hold for its own test split (1,839 videos, 1,162 with a crash)."
    yield "BERTScore is the paper's; it needs a downloaded model, so bring your own (`scores` in predictions)."
    if same:
        some = "" if blind.tried_all(annotations) else f" (of texts only the {blind.CANDIDATES} commonest were tried)"
        yield f"Best constant answers were chosen on these very annotations: upper bounds{some}; choose them elsewhere."
    kinds: dict[bool | None, set[str]] = {}
    for video, source in annotations.sources.items():
        kinds.setdefault(annotations.crash(video), set()).add(source)
    if kinds.get(True) and kinds.get(False) and kinds[True].isdisjoint(kinds[False]):
        yield "Every crash comes from other data sets than every clip without: recognition may be recognising those."


def _length_notes(annotations: Annotations, predictions: Mapping[str, VideoAnswers]) -> Iterator[str]:
    rows = [predictions[video] for video in annotations.videos if video in predictions]
    unknown = sum(row.alarms_s is not None and row.duration_s is None for row in rows)
    if unknown:
        yield f"{unknown} clips have `alarms_s` but no `duration_s`: they are in no rate of false alarms."


def _unread_notes(annotations: Annotations, predictions: Mapping[str, VideoAnswers]) -> Iterator[str]:
    unread = [(video, row.unread) for video in annotations.videos if (row := predictions.get(video)) and row.unread]
    if unread:
        video, why = unread[0]
        yield (
            f"{len(unread)} clips could not be read: they count as not answered, and are left out of alarms and "
            f"calibration; the first is {video}: {why}"
        )


def _answerer_notes(predictions: Mapping[str, VideoAnswers]) -> Iterator[str]:
    for by in dict.fromkeys(row.answered_by for row in predictions.values()):
        if by is None:
            continue
        yield f"Answers of bundle {by.bundle} ({by.bundle_sha256[:12]}) by {by.runtime} on {by.device}."
        if by.tasks_by == "student":
            yield "That bundle has no language part: recognition and times are its student's, texts were not asked."
