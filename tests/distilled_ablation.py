"""What a teacher buys: students that differ in the weights of its losses alone, or in clips that it alone speaks of.

As a script: `python tests/distilled_ablation.py OUT NAME TEACHER TRAINING VALIDATION HELD_OUT WORK [--seeds 3]
[--epochs 6] [--variants labels,features,scores,boundaries,all] [--plain labels] [--hide-ends] [--unlabelled DIR]`
writes `distilled-ablation-NAME.json` and `.md` to OUT. TEACHER is a bundle with a video LLM; the rest are folders of
rendered scenes at the student's own rate. Operating points are fitted on VALIDATION, students judged on HELD_OUT.
`--epochs` are those of student-demo's stages in order, `6,3` being its own; pictures have the size of the last stage
that has any. The stages that follow, in which no teacher takes part, are left out. `--plain` is the variant that the
others are held against.

With scenes in `--unlabelled` there are four variants more. Three see them once an epoch beside what the others see: to
`taught` a teacher alone says what they show, and all of its terms go on the others too, as in `all`; so it does to
`scored`, but not by its features, and its scores count for more; `told` has their labels, and no teacher. They see the
clips of TRAINING as often as the others do, so that they take more steps; `longer` is `labels` for as many.

For one seed every variant begins with the same weights, and those of the same clips see the same windows in the same
order. A process trains a student on one thread. What is in WORK already is used again, half-trained students too, so
that other scenes, another TEACHER and another commit need another WORK.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from ablation_recipes import BASE, ENDS, FURTHER, LABELS, LONGER, TERMS, TOLD, VARIANTS, WEIGHTS, write_recipe
from measured import write_measured
from seed_gains import Metric, Row, lines, summarise

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.bundle import open_bundle
from edge_sdk.clips import LabelledClip, read_scenes, without_label
from edge_sdk.errors import ConfigError, EdgeError
from edge_sdk.evaluation.metrics import average_precision
from edge_sdk.evaluation.protocol import scene_samples
from edge_sdk.evaluation.rows import Answers, row_of
from edge_sdk.evaluation.student import StudentScorer
from edge_sdk.export.distil.data import load_clips
from edge_sdk.export.distil.recipe import Teacher, load_recipe
from edge_sdk.export.distil.student import digest, train
from edge_sdk.export.distil.teacher_cache import TeacherCache, TeacherInfo
from edge_sdk.export.distil.teaching import teach
from edge_sdk.export.distil.workers import single_threaded
from edge_sdk.files import write_bytes
from edge_sdk.toolchain.distillation import refit

METRICS = (
    Metric("clip AP", to_gain=True),
    Metric("clip AUC"),
    Metric("frame AP", to_gain=True),
    Metric("frame AUC"),
    Metric("F1"),
    Metric("mIoU"),
    Metric("start error s", rising=False, to_gain=True),
)
# Validation clips behind a training curve, which decides nothing.
ON_THE_WAY = 20


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """One student, and what it reached on the held-out clips."""

    variant: str
    seed: int
    bundle_sha256: str
    found: dict[str, float | None]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Every student, and what they come to."""

    teacher: TeacherInfo
    students: list[Trained]
    variants: list[Row]


class Clips(NamedTuple):
    """The sides; no scene is on two."""

    training: list[LabelledClip]
    validation: list[LabelledClip]
    held_out: list[LabelledClip]
    unlabelled: list[LabelledClip]

    @property
    def repeats(self) -> int:
        """How often the clips of training are in an epoch that holds further ones once."""
        return 1 + round(len(self.unlabelled) / len(self.training))

    def passes(self, variant: str) -> int:
        """How often a student sees the clips of `shown` in one of the epochs asked for."""
        usual = 1 if variant in FURTHER else self.repeats
        return 2 * self.repeats - 1 if variant == LONGER else usual

    def shown(self, variant: str) -> list[LabelledClip]:
        """What a student of `variant` sees in an epoch, with the labels that it is given."""
        if variant not in FURTHER:
            return self.training
        more = self.unlabelled if variant == TOLD else map(without_label, self.unlabelled)
        return [*self.training * self.repeats, *more]


# Of training, validation, what is held out, and what has no labels, where there is some.
Folders = tuple[Path, Path, Path, Path | None]


class Plan(NamedTuple):
    """One student to make."""

    variant: str
    seed: int
    recipe: Path


def read(folder: Path, rate_hz: float) -> list[LabelledClip]:
    """The scenes of a folder. Raises `ConfigError` for those of another rate, and for crashes alone, or none."""
    clips = read_scenes(folder)
    other = next((clip.record for clip in clips if clip.record and clip.record.fps != rate_hz), None)
    if other is not None:
        raise ConfigError(
            f"{folder}: expected scenes of {rate_hz:g} pictures a second, since boxes are kept for each that a student "
            f"sees; found {other.fps:g} in {other.name}; render with: edge-sdk scenes render DIR --fps {rate_hz:g}"
        )
    if len({clip.crash for clip in clips}) < 2:
        raise ConfigError(f"{folder}: expected scenes with a crash and without, found one kind of both; render more")
    return clips


def read_all(folders: Folders, hide_ends: bool) -> Clips:
    """The clips of the folders, the last of which may be missing. Raises `ConfigError` for a scene that is in two."""
    rate_hz = load_recipe(BASE)[0].pictures.rate_hz
    training, validation, held_out, unlabelled = (read(folder, rate_hz) if folder else [] for folder in folders)
    names = [clip.group for side in (training, validation, held_out, unlabelled) for clip in side]
    twice = sorted(name for name in set(names) if names.count(name) > 1)
    if twice:
        raise ConfigError(f"{len(twice)} scenes are in two folders, {twice[0]} first; render one with other seeds")
    if hide_ends:
        training, unlabelled = ([replace(clip, end_s=None) for clip in side] for side in (training, unlabelled))
    return Clips(training, validation, held_out, unlabelled)


def look(teacher: Path, cache: Path, clips: Sequence[Path]) -> None:
    """Let the teacher see some of the clips."""
    teach(open_bundle(teacher), clips, cache)


def make(work: Path, folders: Folders, hide_ends: bool, plan: Plan) -> Trained:
    """Train, calibrate and judge one student."""
    (recipe, text), cache = load_recipe(plan.recipe), TeacherCache.open(work / "teacher")
    clips = read_all(folders, hide_ends)
    training, validation, held_out = clips.shown(plan.variant), clips.validation, clips.held_out
    seen = digest(recipe, [*training, *validation, *held_out])
    name = f"{plan.variant}-{plan.seed}-{seen}-{cache.digest}"
    draft, made, found = work / "drafts" / name, work / "students" / name, work / "found" / f"{name}.json"
    with single_threaded():
        if not draft.exists():
            shown = validation[:ON_THE_WAY]
            train(recipe, text, training, shown, draft, work / "training", teacher=cache.folder)
        if not made.exists():
            refit(draft, folders[1], made, quiet=True)
        if not found.exists():
            reached, sha256 = judge(made, held_out), open_bundle(made).sha256
            one = Trained(variant=plan.variant, seed=plan.seed, bundle_sha256=sha256, found=reached)
            write_bytes(found, msgspec.json.encode(one))
    one = msgspec.json.decode(found.read_bytes(), type=Trained)
    print(f"{one.variant} {one.seed}: {one.found}", flush=True)
    return one


def judge(bundle: Path, clips: Sequence[LabelledClip]) -> dict[str, float | None]:
    """A student's metrics by the project's evaluation; frame AP is over the frames that frame AUC is over."""
    samples, scorer = scene_samples(clips), StudentScorer(open_bundle(bundle))
    answers = Answers(scorer=scorer.name, samples=samples, scores=[scorer(sample.path) for sample in samples])
    row, crashes = row_of(answers, seed=0, rounds=0), answers.crashes()
    pairs = zip(crashes.samples, crashes.scores, strict=True)
    truth = np.concatenate([sample.crashing(said.frame_times_s) for sample, said in pairs])
    return {
        "clip AP": row.clip_ap.value,
        "clip AUC": row.clip_auc.value,
        "frame AP": average_precision(truth, np.concatenate([said.crash for said in crashes.scores])),
        "frame AUC": row.frame_auc.value,
        "F1": row.f1.value,
        "mIoU": row.overlap.mean_iou,
        "start error s": row.start.mae_s,
    }


def compare(
    teacher: Path, clips: Clips, work: Path, plans: Sequence[Plan], making: Callable[[Plan], Trained], jobs: int
) -> Result:
    """Teach, then make all students, `jobs` at a time."""
    shown, pictures = [*clips.training, *clips.unlabelled], load_recipe(plans[0].recipe)[0].pictures
    paths = [clip.path for clip in shown]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        list(pool.map(partial(look, teacher, work / "teacher"), [paths[first::jobs] for first in range(jobs)]))
        # Read here, so that no two processes write the pictures.
        load_clips([*shown, *clips.validation[:ON_THE_WAY]], work / "training", pictures)
        students = list(pool.map(making, plans))
    found = {(each.variant, each.seed): each.found for each in students}
    info = TeacherCache.open(work / "teacher").info
    return Result(teacher=info, students=students, variants=summarise(found, METRICS))


def conditions(clips: Clips, plan: Plan, result: Result) -> list[str]:
    """What the tables are made of."""
    sizes = ", ".join(
        f"{len(side)} {name} ({sum(clip.crash for clip in side)})" for name, side in clips._asdict().items() if side
    )
    stages, often = load_recipe(plan.recipe)[0].stages, clips.passes(plan.variant)
    epochs = [each.epochs // often * clips.repeats for each in stages]
    shown = ", ".join(f"{n} epochs at {each.height} x {each.width}" for n, each in zip(epochs, stages, strict=True))
    if clips.unlabelled:
        shown += f", for {' and '.join(FURTHER)} {len(clips.unlabelled)} clips more every {clips.repeats} of these, "
        shown += f"for {LONGER} {2 * clips.repeats - 1} in the place of {clips.repeats}"
    weights = ", ".join(f"{term} {getattr(Teacher(), field):g}" for term, field in TERMS.items())
    if clips.unlabelled:
        weights += "".join(f"; {key} {said:g} of {name}" for name, own in WEIGHTS.items() for key, said in own.items())
    ends = "Training is not told when crashes end."
    if not any(map(endless, clips.training)):
        where = "there are none" if clips.unlabelled else "one does not: see --hide-ends"
        ends = f"All labels say when crashes end, and {ENDS} teaches only where {where}."
    return [
        f"Teacher {result.teacher.bundle} {result.teacher.bundle_sha256[:12]}. Scenes (crashes): {sizes}. {BASE}'s "
        f"early stages: {shown}, {stages[0].windows} windows a step. Weights of terms that are on: {weights}. {ends}",
        "",
        "Frame AP and AUC are over crash clips, the start error is a mean over all of them, F1 is at the operating "
        "point that was fitted on validation.",
        "",
    ]


def endless(clip: LabelledClip) -> bool:
    """Whether a crash's label does not say when it ends."""
    return clip.crash and clip.end_s is None


def measure(given: argparse.Namespace) -> None:
    """The whole of the module, for arguments that make sense."""
    watch, folders = Watch(), (given.training, given.validation, given.held_out, given.unlabelled)
    clips = read_all(folders, given.hide_ends)
    chosen = dict.fromkeys([given.plain, *given.variants.split(",")])
    if not any(map(endless, clips.training)):
        chosen.pop(ENDS, None)
    first = load_recipe(BASE)[0].seed

    def planned(name: str, seed: int) -> Plan:
        epochs = [int(each) * clips.passes(name) for each in given.epochs.split(",")]
        return Plan(name, seed, write_recipe(given.work / "recipes", name, seed, epochs, len(clips.shown(name))))

    plans = [planned(name, seed) for seed in range(first, first + given.seeds) for name in chosen]
    making = partial(make, given.work, folders, given.hide_ends)
    result = compare(given.teacher, clips, given.work, plans, making, given.jobs)
    told = [*conditions(clips, plans[0], result), *lines(result.variants, METRICS, given.seeds)]
    title = "Students with and without a teacher, at equal size and data"
    if given.unlabelled:
        title = "Students with and without further clips, of which a teacher or labels say what they show"
    write_measured(given.out, f"distilled-ablation-{given.name}", title, watch, result, told)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("out", "name", "teacher", "training", "validation", "held_out", "work"):
        parser.add_argument(name, type=str if name == "name" else Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", default="6")
    parser.add_argument("--variants", help="all that there is to compare, where not given")
    parser.add_argument("--plain", default=LABELS, help="what the others are held against")
    parser.add_argument("--unlabelled", type=Path, help="further scenes, of which a teacher says what they show")
    parser.add_argument("--hide-ends", action="store_true", help="training is not told when crashes end")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    more = {*FURTHER, LONGER}
    usual = [LABELS, "all", *FURTHER] if given.unlabelled else [name for name in VARIANTS if name not in more]
    given.variants = given.variants or ",".join(usual)
    asked = {given.plain, *given.variants.split(",")}
    if not given.unlabelled and asked & more:
        parser.error(f"{', '.join(sorted(more))} need further scenes: --unlabelled DIR")
    if asked - VARIANTS.keys() or given.seeds < 2:
        found = f"{', '.join(sorted(asked))} and {given.seeds}"
        parser.error(f"expected variants of {', '.join(VARIANTS)} and 2 seeds or more, found {found}")
    try:
        measure(given)
    except EdgeError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
