"""Evaluate a bundle on the six tasks over a folder of annotated clips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.console import Progress, warn
from edge_sdk.errors import ConfigError, SourceError
from edge_sdk.evaluation.tasks import (
    Annotations,
    AnsweredBy,
    TasksReport,
    VideoAnswers,
    evaluate_files,
    evaluate_tasks,
    read_predictions,
    write_predictions,
)
from edge_sdk.explaining import ReasonerSettings
from edge_sdk.files import check_folder, sha256_of
from edge_sdk.tasks import find_task
from edge_sdk.toolchain.clip_answers import ClipAnswerer

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".mpg", ".mpeg")


def evaluate_clips(
    annotations: Path,
    clips: Path,
    bundle: Path | None = None,
    *,
    out: Path | None = None,
    settings: ReasonerSettings | None = None,
    constants_from: Path | None = None,
    records: Path | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    quiet: bool = False,
) -> TasksReport:
    """Let `bundle`, by default the demo bundle, answer the annotated clips in the folder `clips`, and score it.

    `settings` apply to its student too. `out` is a file of predictions, written after each clip. Answers in it by the
    same bundle, runtime and device about a file of the same bytes are not asked again. A clip that cannot be decoded
    counts as not answered, and a note says so. The other parameters are as for `evaluate_files`. Raises `ConfigError`
    for missing clips and for an `out` of another bundle, runtime or device, before anything is answered; `SourceError`
    if no clip could be read; and what `evaluate_files` and `ClipAnswerer` raise.
    """
    opened = open_bundle(bundle)
    answered = partial(_answered, folder=clips, bundle=opened, settings=settings, out=out, seed=seed, quiet=quiet)
    return evaluate_files(
        annotations, answered, constants_from=constants_from, records=records, bootstrap=bootstrap, seed=seed
    )


def find_clips(folder: Path, videos: Sequence[str]) -> dict[str, Path]:
    """Find each video's file anywhere in `folder`: by name, else by stem with a usual video extension.

    Raises `ConfigError` for videos without a file, for one with several, and for a file that would be two videos'.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder; give the folder that holds the annotated clips")
    by_name: dict[str, list[Path]] = {}
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        by_name.setdefault(path.name, []).append(path)
        if path.suffix.lower() in VIDEO_SUFFIXES:
            by_stem.setdefault(path.stem, []).append(path)
    found = {video: by_name.get(video) or by_stem.get(_stem(video), []) for video in videos}
    if missing := [video for video in videos if not found[video]]:
        raise ConfigError(
            f"{folder} lacks {len(missing)} of {len(videos)} annotated clips, the first is {missing[0]}; add them, or "
            "give annotations of those that are there"
        )
    owners: dict[Path, str] = {}
    for video, paths in found.items():
        if len(paths) > 1:
            raise ConfigError(f"{video} could be {paths[0]} or {paths[1]}; leave one of them in {folder}")
        if (other := owners.setdefault(paths[0], video)) != video:
            raise ConfigError(f"{paths[0]} matches both {other} and {video}; add the missing clip")
    return {video: paths[0] for video, paths in found.items()}


def _answered(
    truth: Annotations,
    *,
    folder: Path,
    bundle: Bundle,
    settings: ReasonerSettings | None,
    out: Path | None,
    seed: int,
    quiet: bool,
) -> dict[str, VideoAnswers]:
    """Return the answers about every annotated clip, including those that `out` already holds."""
    files = find_clips(folder, truth.videos)
    with ClipAnswerer(bundle, settings) as answerer:
        wanted = {video: [task for task in answerer.tasks if video in truth.of(task)] for video in files}
        _rehearse(truth, answerer, seed)
        rows = {} if out is None else _earlier(out, answerer.by)
        left = [video for video, path in files.items() if not _complete(rows.get(video), path, wanted[video], answerer)]
        before = len(files) - len(left)
        note = f"({before} were answered before)" if before else ""
        with Progress("clips", quiet=quiet) as progress:
            progress(0, len(left), note)
            for done, video in enumerate(left, start=1):
                rows[video] = _answer(answerer, files[video], wanted[video])
                if out is not None:
                    write_predictions(out, rows)
                progress(done, len(left), note)
        unread = {video: row.unread for video in files if (row := rows.get(video)) and row.unread}
        warn([*answerer.warnings, *(f"{video}: {why}" for video, why in unread.items())])
    if len(unread) == len(files):
        raise SourceError(f"none of {len(files)} clips could be read; the first: {next(iter(unread.values()))}")
    return rows


def _answer(answerer: ClipAnswerer, path: Path, tasks: Sequence[str]) -> VideoAnswers:
    """Answer one clip, or record why it could not be read: one broken file must not stop a whole archive."""
    try:
        return msgspec.structs.replace(answerer.answer(path, tasks), clip_sha256=sha256_of(path))
    except (SourceError, OSError) as error:
        return VideoAnswers(answered_by=answerer.by, unread=str(error))


def _rehearse(truth: Annotations, answerer: ClipAnswerer, seed: int) -> None:
    """Score right answers, so that a missing package or an unusable label is reported before hours of asking."""
    # Texts are slow to score, and two suffice to find a missing package. Other labels are all read, because any single
    # one can be unusable.
    some = Annotations(
        {
            task: dict(islice(rows.items(), 2)) if find_task(task).form == "text" else rows
            for task, rows in truth.truths.items()
        }
    )
    watched = {"alarms_s": (), "duration_s": 1.0, "crash_probability": 0.5} if answerer.watches else {}
    rows = {
        video: {task: some.of(task)[video].answer for task in answerer.tasks if video in some.of(task)} | watched
        for video in some.videos
    }
    evaluate_tasks(some, msgspec.convert(rows, dict[str, VideoAnswers]), bootstrap=0, seed=seed)


def _earlier(out: Path, by: AnsweredBy) -> dict[str, VideoAnswers]:
    """Read the answers that an earlier run wrote to `out`. Raises `ConfigError` if another bundle gave them."""
    check_folder(out.parent)
    if not out.exists():
        return {}
    rows = read_predictions(out)
    for video, row in rows.items():
        if row.answered_by != by:
            raise ConfigError(
                f"{out}: expected answers of {_name(by)}, found those of {_name(row.answered_by)} for {video}; name "
                "another file, or remove this one"
            )
    return rows


def _name(by: AnsweredBy | None) -> str:
    return "no bundle" if by is None else f"{by.bundle} ({by.bundle_sha256[:12]}) by {by.runtime} on {by.device}"


def _complete(row: VideoAnswers | None, path: Path, tasks: Iterable[str], answerer: ClipAnswerer) -> bool:
    """Whether nothing is left to ask: all tasks are answered about exactly this file, or none can be."""
    if row is None:
        return not answerer.watches and not list(tasks)
    if row.unread or (row.clip_sha256 is not None and row.clip_sha256 != _sha256_of(path)):
        return False
    return all(row.answer(task) is not None for task in tasks)


def _sha256_of(path: Path) -> str | None:
    """Hash a file, None if it cannot be read: the question about it then reports why."""
    try:
        return sha256_of(path)
    except OSError:
        return None


def _stem(video: str) -> str:
    """Return the name without its usual video extension, if any."""
    path = Path(video)
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else video
