"""Calibration of a bundle's video LLM on its answers about rendered scenes.

Clips are processed as on the device: sampling, pictures, one prefix for each adapter, answers by their forms. A task is
asked only about the kind of clips that it was tuned on: a clip without a crash has no times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from edge_sdk.analysis import AnalysedClip, analyze
from edge_sdk.bundle import Bundle, rewrite
from edge_sdk.bundle.manifest_language import AnswerCalibration, FusedFit, Language
from edge_sdk.calibration.answer_fits import LEAST, MIN_ANSWERS, Judged, Pair, TaskFit, fit_pairs, judge, settled
from edge_sdk.calibration.answer_store import AnswerStore, Rows
from edge_sdk.calibration.operating_points import mix_weights
from edge_sdk.clips import LabelledClip, SceneTruth, read_scenes, read_truths
from edge_sdk.console import warn
from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.tasks.scene_answers import scene_answers
from edge_sdk.explaining.clips import nearest_profile
from edge_sdk.explaining.sampling import plan_clip, read_clip
from edge_sdk.explaining.settings import language_of
from edge_sdk.files import check_new
from edge_sdk.reasoning.answer import Answer, Verdict
from edge_sdk.reasoning.clip import Clip
from edge_sdk.reasoning.reasoner import Reasoner
from edge_sdk.reasoning.sighting import Sighting, sighting_of
from edge_sdk.runtime import SessionOptions
from edge_sdk.tasks import TASKS, find_task

REPORT = "calibration/answers.json"


def calibrate_answers(
    bundle: Bundle,
    folder: Path,
    out: Path,
    *,
    count: int | None = None,
    least: float = LEAST,
    runtime: str = "ort",
    options: SessionOptions | None = None,
    work: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, TaskFit]:
    """Ask `bundle` about at most `count` scenes of `folder`, and write it with the fits to `out`; returns them.

    Answers are kept in `work`, by default `out` with `.work` added to its name, until `out` is written, so that a
    stopped run resumes. `options` default to one thread. The bundle's student watches clips that have as many
    pictures per second as it needs; where answers with what it saw are right more often, they get fits too.
    `calibration/answers.json` in the bundle holds all fits with their figures. A task with fewer than `MIN_ANSWERS`
    answers keeps its calibration. Raises `ConfigError` for a folder without truths, with too few clips of either kind,
    or where no task has enough answers, and if `out` exists; `BundleError` for a bundle that cannot answer; and what
    opening and asking the bundle raise.
    """
    language = language_of(bundle)
    check_new(out)
    clips, truths = _labelled(folder, count)
    judged: dict[str, list[Pair]] = {}
    weights, how = mix_weights(clips), options or SessionOptions(threads=1)
    store = AnswerStore(work or out.with_name(f"{out.name}.work"), bundle, runtime, how)
    with Reasoner(_without_fits(bundle), runtime, how) as reasoner:

        def ask(clip: LabelledClip) -> Rows:
            watched = _watch(bundle, clip, runtime, how)
            return _answers(reasoner, language, clip, truths[clip.group], watched)

        for number, clip in enumerate(clips):
            for task, found in store.rows(clip, truths[clip.group], partial(ask, clip)):
                judged.setdefault(task, []).append(_weighted(found, float(weights[number])))
            on_progress(number + 1, len(clips))
    if bundle.manifest.student is not None and not any(p.fused or p.denial for rows in judged.values() for p in rows):
        warn(
            [f"{folder}: no scene has the {bundle.manifest.student.rate_hz:g} pictures a second that the student needs"]
        )
    fits = _fit_all(judged, least)
    if not fits:
        most = max(map(len, judged.values()), default=0)
        raise ConfigError(f"a fit needs {MIN_ANSWERS} answers to one task, found {most} at most; give more clips")
    rewrite(
        bundle,
        out,
        language=_fitted(language, fits),
        extra_files={REPORT: _report(folder, clips, least, fits)},
        provenance={"answer_calibration": {"clips": len(clips), "report": REPORT}},
    )
    store.clear()
    return fits


def _labelled(folder: Path, count: int | None) -> tuple[list[LabelledClip], dict[str, SceneTruth]]:
    """Scenes whose truths are known; crashes and others alternate, so that any number of them holds both."""
    truths = read_truths(folder)
    known = [clip for clip in read_scenes(folder) if clip.group in truths]
    sides = [[clip for clip in known if clip.crash is crash] for crash in (True, False)]
    if min(map(len, sides)) < MIN_ANSWERS:
        raise ConfigError(
            f"{folder}: expected at least {MIN_ANSWERS} scenes with a crash and as many without, their truths known, "
            f"found {len(sides[0])} and {len(sides[1])}; render more, and write truths: edge-sdk scenes truth"
        )
    ordered = sorted(known, key=lambda clip: (sides[not clip.crash].index(clip), not clip.crash))
    return ordered[:count], truths


def _watch(bundle: Bundle, clip: LabelledClip, runtime: str, options: SessionOptions) -> AnalysedClip | None:
    """Analyse a clip with the bundle's student; None without a student."""
    if bundle.manifest.student is None:
        return None
    return analyze(clip.path, bundle, runtime=runtime, threads=options.threads, device=options.device)


def _weighted(found: Pair, weight: float) -> Pair:
    """Set the weight of a clip's answers."""
    others = (each and msgspec.structs.replace(each, weight=weight) for each in found[1:])
    return Pair(msgspec.structs.replace(found.alone, weight=weight), *others)


def _answers(
    reasoner: Reasoner,
    language: Language,
    clip: LabelledClip,
    truth: SceneTruth,
    watched: AnalysedClip | None,
) -> Rows:
    """Ask about one clip, in the profile that the device would take; returns judged answers by task."""
    if clip.record is None:
        raise ConfigError(f"{clip.path}: expected a rendered scene with its record, found none; render scenes")
    right = scene_answers(clip.record, truth)
    tasks = [task for task in reasoner.tasks if task in right]
    plan = plan_clip(clip.path, language.profiles[reasoner.profile])
    profile = nearest_profile(language, reasoner.profile, len(plan.pictures))
    with reasoner.begin(profile, source=(plan.info.width, plan.info.height)) as shown:
        for frame in read_clip(clip.path, plan):
            shown.push(frame.pixels, frame.time_s)
        offset_s = round(plan.info.start_time_s, 6)
        seen = _sighting(watched, offset_s)
        said = [each for each in shown.ask(tasks) if isinstance(each, Answer)]
        fused = {} if seen is None else _with_student(shown, tasks, seen)
    # Where the word itself is decoded, texts begin before there is a verdict.
    at_once = any(each.form == "yes_no" and not each.tokens for each in said)

    def of(answer: Answer | None) -> Judged | None:
        if answer is None:
            return None
        return judge(answer, right[answer.task], clip.group, offset_s=offset_s)

    pairs = []
    for each in said:
        alone, other, none = of(each), of(fused.get(each.task)), find_task(each.task).negative
        if alone is None:
            continue
        pair = Pair(alone)
        if seen is not None and each.form == "yes_no":
            pair = Pair(alone, msgspec.structs.replace(alone, student=seen.score))
        elif each.form == "interval" and each.task in fused and fused[each.task].with_student:
            pair = Pair(alone, other)
        elif each.form == "text" and none is not None and other is not None and at_once:
            denial = of(msgspec.structs.replace(each, text=none, probability=1.0))
            pair = Pair(alone, denial=denial, claim=other)
        pairs.append((each.task, pair))
    return pairs


def _with_student(shown: Clip, tasks: Sequence[str], seen: Sighting) -> dict[str, Answer]:
    """Ask for intervals fused with the student's, and for texts under the verdict that there is a crash."""
    again = [task for task in tasks if find_task(task).form != "yes_no"]
    answers = shown.ask(again, sighting=seen, verdict=Verdict(crash=True, probability=1.0)) if again else ()
    return {each.task: each for each in answers if isinstance(each, Answer)}


def _fit_all(judged: dict[str, list[Pair]], least: float) -> dict[str, TaskFit]:
    """Fit every task; texts follow the verdict if yes and no are answered better with the student."""
    asked = {task: rows for task, rows in judged.items() if find_task(task).form == "yes_no"}
    fits = {task: fit_pairs(task, rows, least) for task, rows in asked.items()}
    verdicts = next(
        (asked[task] for task, fit in fits.items() if fit is not None and fit.with_student is not None), None
    )
    for task, rows in judged.items():
        if task not in asked:
            follows = find_task(task).form == "text" and verdicts is not None
            fits[task] = fit_pairs(task, settled(rows, verdicts or []) if follows else rows, least)
    return {task: fit for task, fit in fits.items() if fit is not None}


def _sighting(watched: AnalysedClip | None, offset_s: float) -> Sighting | None:
    return None if watched is None else sighting_of(watched.analysis.events, watched.evidence, offset_s=offset_s)


def _without_fits(bundle: Bundle) -> Bundle:
    """`bundle` without any calibration; given a sighting, it fuses intervals and texts with the student's."""
    language = language_of(bundle)
    both = {t.id: AnswerCalibration(with_student=FusedFit()) for t in TASKS if t.form in ("interval", "text")}
    bare = {name: msgspec.structs.replace(each, calibration=both) for name, each in language.adapters.items()}
    plain = msgspec.structs.replace(language, adapters=bare)
    return msgspec.structs.replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, language=plain))


def _fitted(language: Language, fits: dict[str, TaskFit]) -> Language:
    """`language` with each fit in every adapter that has the task; other tasks keep their calibration."""
    adapters = {
        name: msgspec.structs.replace(
            each,
            calibration={
                **(each.calibration or {}),
                **{task: _calibration(fit) for task, fit in fits.items() if task in each.tasks},
            },
        )
        for name, each in language.adapters.items()
    }
    return msgspec.structs.replace(language, adapters=adapters)


def _calibration(found: TaskFit) -> AnswerCalibration:
    """A task's fits in the form of a manifest."""
    both = found.with_student and found.with_student.fit
    return AnswerCalibration(
        **msgspec.structs.asdict(found.fit), with_student=both if isinstance(both, FusedFit) else msgspec.UNSET
    )


def _report(folder: Path, clips: Sequence[LabelledClip], least: float, fits: dict[str, TaskFit]) -> bytes:
    # Any: JSON.
    told: dict[str, Any] = {
        "clips": len(clips),
        "crashes": sum(clip.crash for clip in clips),
        "folder": folder.name,
        "abstain_below": least,
        "tasks": fits,
    }
    return json.dumps(msgspec.to_builtins(told), indent=1).encode() + b"\n"
