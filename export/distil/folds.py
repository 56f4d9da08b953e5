"""Cross-validation on labelled clips: for each fold, a student trained on the other folds.

    python -m edge_sdk.export.distil.folds --clips DIR [--from BUNDLE] --work DIR --out DIR

`--clips` is a folder of clips with their `labels.csv`. Every clip is first converted to one level of detail and one
codec. `--out` receives `folds.json`, one bundle per fold, and checkpoints in `work`. A stopped run resumes; folds made
from other clips, labels or another recipe are refused. `--work` keeps decoded clips for further runs. Measure the
students with `python -m edge_sdk.benchmarks.real_clips`.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import torch

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.bundle.student_origin import CLIPS_SEEN, clips_seen, mark_of
from edge_sdk.clips import LabelledClip, read_labels, read_scenes
from edge_sdk.console import Progress, run_script
from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.folds import assign_folds, fold_bundle, write_folds
from edge_sdk.evaluation.sets import without_false_ends
from edge_sdk.export.distil.data import CachedClip, load_clips
from edge_sdk.export.distil.from_bundle import load_student
from edge_sdk.export.distil.levelled import level_clips
from edge_sdk.export.distil.student import Progress as Report
from edge_sdk.export.distil.tune import blended, run_tuning, tuning_checkpoint, write_tuned
from edge_sdk.export.distil.tuning import Tuning, balanced, load_tuning, rehearsed, tuned_recipe
from edge_sdk.export.graphs.student import Student
from edge_sdk.toolchain.seen_scenes import refuse_seen

_MADE_OF = "made_of"


def train_folds(
    start: Bundle,
    plan: Tuning,
    plan_text: str,
    clips: Sequence[LabelledClip],
    rehearsal: Sequence[LabelledClip],
    folds: int,
    work: Path,
    out: Path,
    report: Report,
    *,
    scratch: bool = False,
) -> None:
    """Write `out` as `edge_sdk.evaluation.folds.Folds` describes it; existing folds are kept.

    With `scratch`, students begin with random weights instead of those of `start`, and none of `start` are blended in.

    Raises `ConfigError` before any training for an existing fold made of other clips or in another way, for a number of
    folds that the clips cannot fill and, without `scratch`, for clips that the student of `start` was trained on. Also
    raises what `load_student` and `level_clips` raise.
    """
    if not scratch:
        refuse_seen(start, clips)
    model, base = load_student(start)
    recipe = tuned_recipe(base, plan)
    assigned = assign_folds(clips, folds)

    def load(some: Sequence[LabelledClip], what: str) -> list[CachedClip]:
        return load_clips(some, work, recipe.pictures, lambda done, total: report(done, total, f"decode, {what}"))

    levelled = level_clips(clips, work / "levelled", on_progress=lambda done, total: report(done, total, "level"))
    cached = load(levelled, "own")
    most = rehearsed(plan.rehearsal_share, 2 * len(clips), len(rehearsal))
    rendered = load([rehearsal[i] for i in most], "rehearsal")
    from_what = "scratch" if scratch else start.sha256
    shown_by_fold, checkpoints = [], []
    for fold in range(folds):
        own = balanced([clip for clip in cached if assigned[clip.label.group] != fold])
        shown_by_fold.append(own + [rendered[i] for i in rehearsed(plan.rehearsal_share, len(own), len(rendered))])
        checkpoints.append(tuning_checkpoint(out / "work", from_what, recipe, plan, shown_by_fold[fold]))
        _check_made_of(fold_bundle(out, fold), _made_of(checkpoints[fold], plan))
    write_folds(out, clips, assigned)
    for fold, (shown, checkpoint) in enumerate(zip(shown_by_fold, checkpoints, strict=True)):
        if fold_bundle(out, fold).exists():
            continue
        held_out = [clip for clip in cached if assigned[clip.label.group] == fold]
        torch.manual_seed(plan.seed)
        # Training changes a student in place, so each fold starts from its own copy.
        begun = Student(recipe.shape) if scratch else copy.deepcopy(model)

        def tell(done: int, total: int, note: str, fold: int = fold) -> None:
            report(fold * total + done, folds * total, f"fold {fold + 1}/{folds} {note}")

        run = run_tuning(begun, recipe, plan, shown, held_out, checkpoint, tell)
        tuned = run.averaged() if scratch else blended(run.averaged(), model, plan.blend)
        learnt = [clip.label for clip in shown]
        seen = sorted(set(map(mark_of, learnt))) if scratch else clips_seen(start, learnt)
        further = {_MADE_OF: _made_of(checkpoint, plan), CLIPS_SEEN: seen}
        write_tuned(fold_bundle(out, fold), start, recipe, plan_text, tuned, run.losses, held_out, further=further)


def _made_of(checkpoint: Path, plan: Tuning) -> str:
    """What identifies a fold's student: the name of its checkpoint, and its blend."""
    return f"{checkpoint.stem} {plan.blend:g}"


def _check_made_of(bundle: Path, wanted: str) -> None:
    """Raise `ConfigError` for an existing fold made of something else: it may have seen the clips it is tested on."""
    if not bundle.exists():
        return
    found = Bundle.open(bundle).manifest.provenance.get(_MADE_OF)
    if found != wanted:
        other = "was made from other clips or labels, or with other settings"
        what = "does not say what it was made from" if found is None else other
        raise ConfigError(f"{bundle} {what}; give another --out, or remove the folder")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the requested folds; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="folder with labels.csv")
    parser.add_argument("--from", type=Path, dest="start", help="bundle to begin with; the demo bundle by default")
    parser.add_argument("--scratch", action="store_true", help="only its recipe: begin with random weights")
    parser.add_argument("--recipe", default="tune-student", help="name or file of a tuning recipe")
    parser.add_argument("--rehearse", type=Path, help="folder of rendered scenes to mix in")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--work", type=Path, required=True, help="decoded clips, for several runs")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    plan, text = load_tuning(chosen.recipe)
    table = chosen.clips / "labels.csv"
    with Progress("folds") as progress:
        train_folds(
            open_bundle(chosen.start),
            plan,
            text,
            without_false_ends(table, read_labels(table)),
            read_scenes(chosen.rehearse) if chosen.rehearse else [],
            chosen.folds,
            chosen.work,
            chosen.out,
            progress,
            scratch=chosen.scratch,
        )
    return 0


if __name__ == "__main__":
    run_script(main)
