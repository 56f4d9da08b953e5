"""Fine-tuning: a student continues training on its user's labelled clips.

Such clips are few, and most show crashes. So the part of a file before its crash is shown as a clip without one, and
clips without a crash are shown as often as crashes: then neither the file nor the archive gives the label away. Windows
begin anywhere and follow other footage, as in the first training. Rendered scenes may be mixed in, with their boxes, so
that what was learnt from them is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.ranges import TUNING
from edge_sdk.export.distil.recipe import Recipe, Stage, Teacher
from edge_sdk.export.ranges import check_ranges
from edge_sdk.export.recipe_file import find_recipe
from edge_sdk.types import Value

# A piece before a crash ends this long before it: labels and warning signs are not exact to the frame.
PRE_CRASH_GAP_S = 1.5
# Shorter pieces show too little motion to be worth a window.
MIN_PIECE_S = 2.0


class Tuning(Value, frozen=True, kw_only=True):
    """A recipe `tune-*.toml`: what differs from the recipe that made the student.

    Pictures are `height` x `width`, the bundle's own size where None. A step sees `windows` windows, `micro` at a time;
    `splice_share` of them are joined from two clips. `rehearsal_share` of the windows come from rendered scenes, if
    some are given. `dropout` is as in `Head`, other settings as in `Optimiser` and `Targets`. The written weights are a
    mean of the tuned ones, with weight `blend`, and the original ones: it keeps more of what the student could do
    before (Wortsman et al., Robust fine-tuning of zero-shot models, arXiv:2109.01903). With a table [teacher] the
    student learns from a teacher's cache too.
    """

    seed: int
    epochs: int
    height: int | None = None
    width: int | None = None
    windows: int
    micro: int
    splice_share: float
    rehearsal_share: float
    aftermath_s: float
    dropout: tuple[float, float]
    learning_rate: float
    average: float
    blend: float = 1.0
    teacher: Teacher | msgspec.UnsetType = msgspec.UNSET


def load_tuning(name: str) -> tuple[Tuning, str]:
    """Load the recipe called `name`, or the file at a path, and its text. Raises `ConfigError` as `load_recipe`."""
    found = find_recipe(name, "tune-*.toml")
    plan = found.read(Tuning)
    _check(plan, found.path)
    return plan, found.text


def _check(plan: Tuning, path: Path) -> None:
    check_ranges(plan, TUNING, path)
    if any(side is not None and (side < 32 or side % 32) for side in (plan.height, plan.width)):
        raise ConfigError(f"recipe {path}: picture sides must be multiples of 32, found {plan.height}x{plan.width}")


def tuned_recipe(base: Recipe, plan: Tuning) -> Recipe:
    """The recipe of the run: `base` with one stage, the settings of `plan`, and nothing frozen."""
    change = msgspec.structs.replace
    pictures = change(
        base.pictures, height=plan.height or base.pictures.height, width=plan.width or base.pictures.width
    )
    return change(
        base,
        seed=plan.seed,
        pictures=pictures,
        targets=change(base.targets, aftermath_s=plan.aftermath_s),
        windows=change(base.windows, splice_share=plan.splice_share),
        # A bundle has no motion layer, and the gradients of a new one would disturb the grid.
        loss=change(base.loss, flow_weight=0.0),
        optimiser=change(base.optimiser, learning_rate=plan.learning_rate, average=plan.average),
        stages=(
            Stage(
                epochs=plan.epochs,
                height=pictures.height,
                width=pictures.width,
                windows=plan.windows,
                micro=plan.micro,
            ),
        ),
        teacher=plan.teacher,
        late=None,
        head=None,
        onward=None,
    )


def balanced(clips: Sequence[CachedClip]) -> list[CachedClip]:
    """Add the parts before crashes to `clips`, and repeat normal clips until they balance the crashes."""
    crashes = sum(clip.label.crash for clip in clips)
    quiet = [piece for clip in clips if (piece := before_crash(clip)) is not None]
    normal = [clip for clip in clips if not clip.label.crash]
    again = round(max(0, crashes - len(quiet) - len(normal)) / len(normal)) if normal else 0
    return [*clips, *quiet, *(normal * again)]


def before_crash(clip: CachedClip) -> CachedClip | None:
    """The part of a crash clip in which nothing has happened yet, as a clip without a crash; None where too short."""
    label = clip.label
    if not label.crash or label.start_s is None:
        return None
    until_s = (label.start_s if label.pre_crash_s is None else label.pre_crash_s) - PRE_CRASH_GAP_S
    frames = int((clip.times_s < until_s).sum())
    if frames == 0 or clip.times_s[frames - 1] - clip.times_s[0] < MIN_PIECE_S:
        return None
    return CachedClip(
        luma=clip.luma[:frames],
        times_s=clip.times_s[:frames],
        label=replace(label, crash=False, start_s=None, end_s=None, pre_crash_s=None),
        boxes=None if clip.boxes is None else clip.boxes[:frames],
    )


def rehearsed(share: float, own: int, available: int) -> list[int]:
    """Indices, spread evenly, of the `available` rendered clips that make up `share` beside `own` others."""
    count = min(available, round(own * share / (1 - share)))
    return [index * available // count for index in range(count)]
