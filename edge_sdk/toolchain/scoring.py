"""Score the six tasks for a quantised bundle and one in full weights on the same clips: part of the bundle's proof.

Both answer as on the device: with the bundle's own graphs, sampling, prompts and answer forms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge_sdk.bundle import Bundle, rewrite
from edge_sdk.bundle.proof import SCORES, ScoreChange, Scores
from edge_sdk.clips import LabelledClip, read_scenes, read_truths
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.evaluation.tasks import Annotations, TasksReport, Truth, VideoAnswers, evaluate_tasks
from edge_sdk.evaluation.tasks.scene_answers import scene_answers
from edge_sdk.evaluation.tasks.text import check_packages
from edge_sdk.explaining.sampling import plan_clip, read_clip
from edge_sdk.files import sha256_of
from edge_sdk.reasoning.answer import Answer
from edge_sdk.reasoning.reasoner import ANSWER_TOKENS, Reasoner
from edge_sdk.registry import DEFAULT_RUNTIME
from edge_sdk.runtime import SessionOptions
from edge_sdk.tasks import in_words
from edge_sdk.toolchain.clip_answers import crash_probability

OnClip = Callable[[int, int], None]
Said = Mapping[str, Mapping[str, Answer]]
"""Answers by the video's name and by task."""
_SOURCE = "rendered"
AS_ENGINES = SessionOptions(threads=1, float_products=True)
# Precision and recall are left out: the score that combines them is listed.
_LEFT_OUT = ("_precision", "_recall")


def add_scores(
    bundle: Bundle,
    before: Bundle,
    clips: Path,
    *,
    count: int | None = None,
    runtime: str = DEFAULT_RUNTIME,
    options: SessionOptions | None = None,
    max_tokens: int = ANSWER_TOKENS,
    said_before: Said | None = None,
    on_clip: OnClip = lambda done, total: None,
) -> Scores:
    """Score both bundles on at most `count` scenes of the folder `clips`, and add the table to `bundle`'s folder.

    `options` default to one thread, and products in floats as in an engine.
    `max_tokens` limits the length of a text answer. `said_before` is the result of `answer_scenes` for `before` on
    these scenes, to reuse it if several bundles are compared with the same one.
    Raises `ConfigError` for a folder without scenes or truths, and for a scene that the bundle was calibrated on;
    `BundleError` if they do not answer the same tasks, or if `bundle` is not quantised.
    """
    language = bundle.manifest.language
    if language is None or language.quantisation is None:
        raise BundleError(
            f"{bundle.manifest.name}: expected a quantised bundle, found full weights; make one with edge-sdk quantise"
        )
    _check_tasks(bundle, before)
    check_packages()
    scenes = _Scenes.read(clips, count)
    _check_unseen(bundle, scenes.hashes)
    asking = _Asking(runtime, options or AS_ENGINES, max_tokens)
    number, total = len(scenes.clips), (1 if said_before else 2) * len(scenes.clips)
    said = said_before or _said(before, scenes, asking, lambda done: on_clip(done, total))
    now = _said(bundle, scenes, asking, lambda done: on_clip(total - number + done, total))
    found = _compare(bundle, before, scenes, said, now)
    found = msgspec.structs.replace(found, float_products=asking.options.float_products)
    data = msgspec.json.format(msgspec.json.encode(found)) + b"\n"
    rewrite(bundle, bundle.folder, extra_files={SCORES: data}, overwrite=True)
    return found


def answer_scenes(
    bundle: Bundle,
    clips: Path,
    *,
    count: int | None = None,
    runtime: str = DEFAULT_RUNTIME,
    options: SessionOptions | None = None,
    max_tokens: int = ANSWER_TOKENS,
) -> Said:
    """Return `bundle`'s answers about at most `count` scenes of the folder `clips`; see `add_scores`."""
    asking = _Asking(runtime, options or AS_ENGINES, max_tokens)
    return _said(bundle, _Scenes.read(clips, count), asking, lambda done: None)


class _Asking(NamedTuple):
    """How bundles are opened."""

    runtime: str
    options: SessionOptions
    max_tokens: int


class _Scenes(NamedTuple):
    """Labelled clips, their SHA-256, and the right answers by task; the last two are keyed by the videos' names."""

    clips: Sequence[LabelledClip]
    hashes: dict[str, str]
    right: dict[str, dict[str, str]]

    @classmethod
    def read(cls, folder: Path, count: int | None) -> _Scenes:
        """Read at most `count` scenes of a folder. Raises `ConfigError` for one without scenes or truths."""
        clips = read_scenes(folder)[:count]
        return cls(clips, {clip.path.name: sha256_of(clip.path) for clip in clips}, _right_answers(folder, clips))


def _compare(bundle: Bundle, before: Bundle, scenes: _Scenes, old: Said, new: Said) -> Scores:
    truths = Annotations({task: dict(_truths(scenes.right, task)) for task in _tasks(scenes.right)})
    reports = [evaluate_tasks(truths, _rows(scenes.clips, side), bootstrap=0) for side in (old, new)]
    pairs = [(answer.text, new[name][task].text) for name, side in old.items() for task, answer in side.items()]
    return Scores(
        before=before.manifest.name,
        before_sha256=before.sha256,
        clips=len(scenes.clips),
        clips_sha256=hashlib.sha256(
            "".join(scenes.hashes[name] for name in sorted(scenes.hashes)).encode()
        ).hexdigest(),
        answers=len(pairs),
        equal_answers=sum(one == other for one, other in pairs),
        rows=tuple(_changes(*reports)),
        files={path: entry.sha256 for path, entry in bundle.manifest.files.items() if path.startswith("language/")},
    )


def _said(bundle: Bundle, scenes: _Scenes, asking: _Asking, on_clip: Callable[[int], None]) -> Said:
    """Ask the bundle about each scene, for the tasks that have a right answer."""
    language, found = bundle.manifest.language, dict[str, dict[str, Answer]]()
    if language is None:
        raise BundleError(f"{bundle.manifest.name} has no language model; give the bundle of the same checkpoint")
    with Reasoner(bundle, asking.runtime, asking.options, max_tokens=asking.max_tokens) as reasoner:
        profile = language.profiles[reasoner.profile]
        for scene in scenes.clips:
            plan = plan_clip(scene.path, profile)
            tasks = [task for task in scenes.right[scene.path.name] if task in reasoner.tasks]
            with reasoner.begin(source=(plan.info.width, plan.info.height)) as clip:
                for shown in read_clip(scene.path, plan):
                    clip.push(shown.pixels, shown.time_s)
                said = [each for each in clip.ask(tasks) if isinstance(each, Answer)]
            found[scene.path.name] = {each.task: each for each in said}
            on_clip(len(found))
    return found


def _check_tasks(bundle: Bundle, before: Bundle) -> None:
    answered = [
        {task for adapter in each.manifest.language.adapters.values() for task in adapter.tasks}
        for each in (bundle, before)
        if each.manifest.language
    ]
    if any(tasks != answered[0] for tasks in answered):
        here, there = (", ".join(sorted(tasks)) for tasks in answered)
        raise BundleError(
            f"{bundle.manifest.name} answers {here}, {before.manifest.name} {there}; expected the same tasks, so give "
            "the bundle that this one was made from"
        )


def _check_unseen(bundle: Bundle, hashes: Mapping[str, str]) -> None:
    told = [bundle.manifest.provenance.get(key, {}) for key in ("calibration", "recovery")]
    seen = {clip["sha256"] for each in told for clip in each.get("clips", ())}
    if shared := sorted(name for name, sha256 in hashes.items() if sha256 in seen):
        raise ConfigError(
            f"{len(shared)} of the clips were used for calibration, such as {shared[0]}; give other clips"
        )


def _right_answers(folder: Path, scenes: Sequence[LabelledClip]) -> dict[str, dict[str, str]]:
    truths = read_truths(folder)
    found = {}
    for scene in scenes:
        record = scene.record
        if record is None or record.name not in truths:
            raise ConfigError(f"{scene.path}: this scene has no truth; write truths: edge-sdk scenes truth {folder}")
        found[scene.path.name] = scene_answers(record, truths[record.name])
    return found


def _tasks(right: Mapping[str, Mapping[str, str]]) -> list[str]:
    return sorted({task for answers in right.values() for task in answers})


def _truths(right: Mapping[str, Mapping[str, str]], task: str) -> Iterator[tuple[str, Truth]]:
    for name, answers in right.items():
        if task in answers:
            yield name, Truth(answer=answers[task], source=_SOURCE)


def _rows(scenes: Sequence[LabelledClip], said: Mapping[str, Mapping[str, Answer]]) -> dict[str, VideoAnswers]:
    durations_s = {scene.path.name: scene.record.duration_s for scene in scenes if scene.record}
    return {
        name: msgspec.convert(
            {task: in_words(answer.value, answer.text) for task, answer in answers.items()}
            | {"crash_probability": crash_probability(answers.get("recognition")), "duration_s": durations_s.get(name)},
            VideoAnswers,
        )
        for name, answers in said.items()
    }


def _changes(before: TasksReport, after: TasksReport) -> Iterator[ScoreChange]:
    sides = [_scores(report) for report in (before, after)]
    for key, value in sides[0].items():
        yield ScoreChange(task=key[0], score=key[1], before=value, after=sides[1].get(key))


def _scores(report: TasksReport) -> dict[tuple[str, str], float | None]:
    """Return the scores of the repaired reading, by task and name."""
    return {
        (task.task, name): measure.value
        for task in report.tasks
        for line in task.lines
        if line.kind == "repaired"
        for name, measure in line.scores.items()
        if not name.endswith(_LEFT_OUT)
    }
