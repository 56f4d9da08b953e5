"""Answers of a bundle's video LLM to rendered scenes, and the bundle with what they teach.

Clips go the device's way: sampling, pictures, one prefix for each adapter, answers by their forms. Those that a task
was not tuned on are not asked it: a clip without a crash has no times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_sdk.bundle import Bundle, rewrite
from edge_sdk.bundle.manifest_language import Language
from edge_sdk.calibration.answer_fits import LEAST, MIN_ANSWERS, Judged, TaskFit, fit_and_judge, judge
from edge_sdk.calibration.operating_points import mix_weights
from edge_sdk.clips import LabelledClip, SceneTruth, read_scenes, read_truths
from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.tasks.scene_answers import scene_answers
from edge_sdk.explaining.clips import nearest_profile
from edge_sdk.explaining.sampling import plan_clip, read_clip
from edge_sdk.explaining.settings import language_of
from edge_sdk.reasoning.answer import Answer
from edge_sdk.reasoning.reasoner import Reasoner
from edge_sdk.runtime import SessionOptions

REPORT = "calibration/answers.json"


def calibrate_answers(
    bundle: Bundle,
    folder: Path,
    out: Path,
    *,
    count: int | None = None,
    least: float = LEAST,
    runtime: str = "ort",
    threads: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, TaskFit]:
    """Ask `bundle` about at most `count` scenes of `folder`, and write it with the fits to `out`; the fits by task.

    `calibration/answers.json` in the bundle holds them with their figures. A task with fewer than `MIN_ANSWERS` answers
    stays as it is. Raises `ConfigError` for a folder without truths, with too few clips of either kind, or where no
    task has enough answers, `BundleError` for a bundle that cannot answer, and what opening and asking it raise.
    """
    language = language_of(bundle)
    if out.exists():
        raise ConfigError(f"{out} exists already; choose another folder or remove it")
    clips, truths = _labelled(folder, count)
    judged: dict[str, list[Judged]] = {}
    weights = mix_weights(clips)
    plain = _without_fits(bundle)
    with Reasoner(plain, runtime, SessionOptions(threads=threads)) as reasoner:
        for number, clip in enumerate(clips):
            for task, found in _answers(reasoner, language, clip, truths[clip.group], float(weights[number])):
                judged.setdefault(task, []).append(found)
            on_progress(number + 1, len(clips))
    fits = {task: fit for task, rows in judged.items() if (fit := fit_and_judge(task, rows, least)) is not None}
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
    return fits


def _labelled(folder: Path, count: int | None) -> tuple[list[LabelledClip], dict[str, SceneTruth]]:
    """Scenes whose truths are known, crashes and others in turn so that any number of them holds both."""
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


def _answers(
    reasoner: Reasoner, language: Language, clip: LabelledClip, truth: SceneTruth, weight: float
) -> list[tuple[str, Judged]]:
    """What comes of asking about one clip, by task, in the profile that the device would take."""
    if clip.record is None:
        raise ConfigError(f"{clip.path}: expected a rendered scene with its record, found none; render scenes")
    right = scene_answers(clip.record, truth)
    tasks = [task for task in reasoner.tasks if task in right]
    plan = plan_clip(clip.path, language.profiles[reasoner.profile])
    profile = nearest_profile(language, reasoner.profile, len(plan.pictures))
    with reasoner.begin(profile, source=(plan.info.width, plan.info.height)) as shown:
        for frame in read_clip(clip.path, plan):
            shown.push(frame.pixels, frame.time_s)
        said = [each for each in shown.ask(tasks) if isinstance(each, Answer)]
    offset_s = round(plan.info.start_time_s, 6)
    judged = [(each.task, judge(each, right[each.task], clip.group, offset_s=offset_s, weight=weight)) for each in said]
    return [(task, found) for task, found in judged if found is not None]


def _without_fits(bundle: Bundle) -> Bundle:
    """`bundle` as it answers without any calibration."""
    language = language_of(bundle)
    bare = {name: msgspec.structs.replace(each, calibration=None) for name, each in language.adapters.items()}
    plain = msgspec.structs.replace(language, adapters=bare)
    return msgspec.structs.replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, language=plain))


def _fitted(language: Language, fits: dict[str, TaskFit]) -> Language:
    """`language` with each fit in every adapter that is asked the task; others' tasks keep theirs."""
    adapters = {
        name: msgspec.structs.replace(
            each,
            calibration={
                **(each.calibration or {}),
                **{task: fit.fit for task, fit in fits.items() if task in each.tasks},
            },
        )
        for name, each in language.adapters.items()
    }
    return msgspec.structs.replace(language, adapters=adapters)


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
