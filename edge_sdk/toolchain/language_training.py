"""From a recipe to a small video LLM's bundle: render, write truths, train, answer held-out clips, judge, export.

The steps live in rooms that do not import each other; this module opens them by name and passes folders between them.
Each step skips what an earlier, interrupted run has finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.bundle.student_part import student_part
from edge_sdk.clips import read_scenes
from edge_sdk.console import Progress, warn
from edge_sdk.errors import ConfigError
from edge_sdk.files import check_new, write_json, write_text
from edge_sdk.registry import open_room
from edge_sdk.toolchain import ranks
from edge_sdk.toolchain.exporting import export_bundle
from edge_sdk.toolchain.seen_scenes import language_trained_on
from edge_sdk.types import Value

EXPORT_RECIPE = "crashchat-mini"
# The main score of a task is the first of these that its report has.
_MAIN_SCORES = ("yes_f1", "miou", "exact")


class LanguageReport(Value, frozen=True, kw_only=True):
    """The result of a recipe. `seconds` are by stage of training, summed over all runs; `tables` are Markdown files.

    `scores` holds the main score on held-out clips, by who answered (base, adapters) and by task.
    """

    bundle: str
    sha256: str
    size_bytes: int
    parameters: int
    seconds: dict[str, float]
    scores: dict[str, dict[str, float | None]]
    tables: dict[str, str]


def make_language(
    recipe: str,
    work: Path,
    out: Path,
    *,
    training: Path | None = None,
    held_out: Path | None = None,
    student: Path | None = None,
    start: Path | None = None,
    most: int | None = None,
    quiet: bool = False,
) -> LanguageReport | None:
    """Train the video LLM of `recipe` in the folder `work` and write its bundle to `out`.

    `training` and `held_out` are folders of rendered scenes with truths; if not given, the recipe renders them.
    `student` is a bundle whose student is added to `out`, and `start` one whose video LLM is trained further. `most`
    limits the number of held-out clips that are answered. Of several processes one returns the report, the others
    return None; they need scenes that are already rendered. Raises, before anything is rendered or trained,
    `ConfigError` for an unknown recipe, a `student` bundle without a student, a `start` that does not fit the recipe,
    missing scenes, or if `out` exists; `BundleError` if `student` or `start` is broken; `MissingDependencyError` for a
    package that is not installed.
    """
    check_new(out)
    if ranks.count() > 1 and not (training and held_out):
        raise ConfigError("several processes need rendered scenes; render them first and give their folders")
    plan, text = open_room("export.mini.recipe").load_recipe(recipe)
    begun = None if start is None else open_bundle(start)
    _check(plan, student, begun)
    scenes = training or _render(plan.scenes.training, work, quiet)
    asked = held_out or _render(plan.scenes.held_out, work, quiet)
    _warn_of_shared(scenes, asked, begun)
    write_text(work / "recipe.toml", text)
    with Progress("train", quiet=quiet) as progress:
        found = open_room("export.mini.language").train_language(
            plan, scenes, asked, work, progress, start=begun, most=most
        )
    if not found.main:
        return None
    tables, scores = _judge(found, asked, work)
    exported = export_bundle(
        Path(found.base),
        out,
        adapters=tuple(f"{name}={folder}" for name, folder in found.adapters.items()),
        recipe=EXPORT_RECIPE,
        student=student,
        provenance={"language": _origin(found, text, begun)},
        quiet=quiet,
    )
    report = LanguageReport(
        bundle=str(out),
        sha256=exported.sha256,
        size_bytes=exported.size_bytes,
        parameters=found.parameters,
        seconds=found.seconds,
        scores=scores,
        tables=tables,
    )
    write_json(work / "language.json", report, indent=1)
    return report


def describe(report: LanguageReport) -> str:
    """Describe a report in lines for people."""
    rows = [
        f"{who:10} {task:16} {'-' if score is None else format(score, '.3f')}"
        for who, scores in report.scores.items()
        for task, score in scores.items()
    ]
    spent = ", ".join(f"{name} {seconds / 60:.0f} min" for name, seconds in report.seconds.items())
    size = f"bundle {report.bundle}: {report.size_bytes / 1e6:.1f} MB, {report.parameters / 1e6:.2f} million parameters"
    return "\n".join([*rows, f"training: {spent}", *report.tables.values(), size])


# Any: a recipe of another room.
def _check(plan: Any, student: Path | None, start: Bundle | None) -> None:
    """Check everything that would otherwise fail only after hours of training."""
    from edge_sdk.evaluation.tasks.text import check_packages

    check_packages()
    if student:
        student_part(student)
    open_room("export.mini.from_bundle").check_start(start, plan)
    shown = open_room("export.export_recipe").load_export_recipe(EXPORT_RECIPE).profiles
    if plan.profile not in shown:
        raise ConfigError(
            f"recipe {plan.name}: expected a profile of the exported bundle, {' or '.join(shown)}, found "
            f"{plan.profile}; use the expected one"
        )


def _warn_of_shared(training: Path, held_out: Path, start: Bundle | None) -> None:
    """Warn of scenes that are in both folders, by family and seed, and of scenes that `start` was trained on."""
    known = {(clip.group, clip.record.generator) for clip in read_scenes(training) if clip.record is not None}
    asked = [clip for clip in read_scenes(held_out) if clip.record is not None]
    shared = [clip.group for clip in asked if clip.record and (clip.group, clip.record.generator) in known]
    if shared:
        some = f"{len(shared)} of {len(asked)} scenes of {held_out}, {shared[0]} first"
        warn([f"{some}, are used for training and for scoring: the scores say little about other scenes"])
    if start is not None and (seen := language_trained_on(start, asked)):
        some = f"{len(seen)} of {len(asked)} scenes of {held_out}, {seen[0].group} first"
        named = f"the recipes of bundle {start.manifest.name!r} name for training {some}"
        warn([f"{named}: if it was trained on them, the scores say little about other scenes"])


# Any: what another room returns, and see Manifest.provenance.
def _origin(found: Any, recipe: str, start: Bundle | None) -> dict[str, Any]:
    """Describe how the video LLM was made, and how the one it was trained from was made, if any."""
    known: dict[str, Any] = {
        "recipe": recipe,
        "clips_sha256": found.clips_sha256,
        "training_clips": found.training_clips,
    }
    if start is None:
        return known
    before = start.manifest.provenance
    told = {"language": before["language"]} if "language" in before else {}
    return known | {"start": {"bundle": start.manifest.name, "sha256": start.sha256} | told}


# Any: what another room returns.
def _judge(found: Any, records: Path, work: Path) -> tuple[dict[str, str], dict[str, dict[str, float | None]]]:
    """Write the table of each set of answers, beside the best blind answers; return the files and the main scores."""
    from edge_sdk.evaluation.tasks import evaluate_files, to_markdown

    tables: dict[str, str] = {}
    scores: dict[str, dict[str, float | None]] = {}
    for name, answers in found.predictions.items():
        report = evaluate_files(Path(found.annotations), Path(answers), records=records)
        tables[name] = str(work / f"tasks-{name}.md")
        write_text(Path(tables[name]), to_markdown(report))
        scores[name] = {}
        for task in report.tasks:
            line = next(line for line in task.lines if line.kind == "repaired")
            main = next(score for score in _MAIN_SCORES if score in line.scores)
            scores[name][task.task] = line.scores[main].value
    return tables, scores


# Any: the seeds come from a recipe, whose type belongs to the room that reads it.
def _render(sets: Sequence[Any], work: Path, quiet: bool) -> Path:
    """Render the scenes of all `sets` into one folder, with truths."""
    folder = work / "-".join(["scenes", *(f"{each.family}-{each.count or 'suite'}-{each.first}" for each in sets)])
    for each in sets:
        test_seeds = open_room("calibration.scenes.families").find_family(each.family).suite
        seeds = range(each.first, each.first + each.count) if each.count else test_seeds()
        with Progress(f"render {each.family}", quiet=quiet) as progress:
            open_room("calibration.scenes.render").render(
                seeds,
                folder,
                fps=each.fps,
                family=each.family,
                on_progress=lambda at, shown=progress: shown(at.done, at.total),
            )
    with Progress(f"truths {folder.name}", quiet=quiet) as progress:
        open_room("calibration.scenes.truth").write_truths(folder, on_progress=progress)
    return folder
