"""A recipe: everything that decides what a student becomes, in one TOML file beside this package.

A recipe, a seed and the same clips give the same student, as far as torch's CPU kernels allow. Its text goes into the
bundle's provenance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.ranges import STUDENT, check_ranges
from edge_sdk.export.graphs.student import StudentShape
from edge_sdk.export.graphs.views import View
from edge_sdk.export.recipe_file import find_recipe
from edge_sdk.types import Value

# Frames whose mean is a window's peak: the longest confirmation of an alarm.
PEAK_FRAMES = 5


class Seeds(Value, frozen=True, kw_only=True):
    """Rendered scenes with the first `count` seeds from `first` on, or only those of a kind; see `choose_seeds`.

    `family` as `edge-sdk scenes render` has it; only the first tells kinds apart by their seeds.
    """

    first: int
    count: int
    of: Literal["any", "others", "suite"] = "any"
    family: str = "first"

    def __post_init__(self) -> None:
        if self.count < 1 or self.first < 0:
            raise ConfigError(f"scenes have a count of at least 1 and a first seed of at least 0, found {self}")
        if self.family != "first" and self.of != "any":
            raise ConfigError(f'scenes of the family {self.family!r} are of = "any", found of = "{self.of}"')


class Scenes(Value, frozen=True, kw_only=True):
    """Which scenes are rendered for training, for validation, and as the clip that travels with the bundle.

    The `further` ones are shown in the last stage, [onward], only.
    """

    training: Seeds
    validation: Seeds
    demo_seed: int
    further: Seeds | None = None


class Pictures(Value, frozen=True, kw_only=True):
    """How frames reach the student on the device."""

    rate_hz: float
    height: int
    width: int
    lags: tuple[int, ...]


class Targets(Value, frozen=True, kw_only=True):
    """How labels become per-frame targets. Heat comes `heat_delay_frames` late, so that it may see what followed.

    A crash counts as going on for `aftermath_s` after its start at least: what tells it from a near miss is often what
    the vehicles do next.
    """

    heat_delay_frames: int
    heat_sigma_s: float
    aftermath_s: float


class Windows(Value, frozen=True, kw_only=True):
    """What one training example is.

    `frames` long; `splice_share` of the windows are joined from two clips by a hard cut; frames before `warm_up_s`
    count `warm_up_weight` in the loss, because too little has been seen there.
    """

    frames: int
    splice_share: float
    warm_up_s: float
    warm_up_weight: float


class Loss(Value, frozen=True, kw_only=True):
    """Weights of the four scores' losses, and of a positive frame against a negative one; then the same of the maps.

    `actor_cells` is the weight of a map's cell on a vehicle of the incident, `flow_weight` that of the vehicles'
    motion, `window_weight` that of a window's peak.
    """

    weights: tuple[float, float, float, float]
    positive: tuple[float, float, float, float]
    map_weights: tuple[float, float, float]
    map_positive: tuple[float, float, float]
    actor_cells: float
    flow_weight: float
    window_weight: float


class Stage(Value, frozen=True, kw_only=True):
    """Epochs at one picture size. A step sees `windows` windows, `micro` of them at a time in each worker."""

    epochs: int
    height: int
    width: int
    windows: int
    micro: int


class Late(Value, frozen=True, kw_only=True):
    """The stage after the others, on picture features kept on disk; see `late.py`.

    `copies` of every clip, the first as it is and the others augmented; `window_weight` and `map_weight` stand for
    those of the loss. The optimiser's other settings hold here too, in one more cosine cycle.
    """

    copies: int
    epochs: int
    windows: int
    micro: int
    learning_rate: float
    average: float
    window_weight: float
    map_weight: float


class Head(Value, frozen=True, kw_only=True):
    """The end of the run, see `head.py`; `windows` to a step, of the copies that the late stage made.

    `dropout` is the share of a frame's pooled features, and of what the memory adds to them, left out in training;
    `window_weight` stands for that of the loss.
    """

    epochs: int
    windows: int
    dropout: tuple[float, float]
    learning_rate: float
    average: float
    window_weight: float


class Focus(Value, frozen=True, kw_only=True):
    """Windows of `frames` around incidents, see `focus.py`.

    `share` of the pieces hold the incident's frame, `before` frames from their begin and `after` from their end at
    least. Of clips in which the camera's own car takes part `own_car` of the usual share is shown, of those without
    incident `normal`. `zoomed` of the windows are enlarged about `zoom` times; `splice_share` as in `Windows`.
    """

    frames: int
    share: float
    before: int
    after: int
    own_car: float
    normal: float
    zoom: float
    zoomed: float
    splice_share: float


class Onward(Value, frozen=True, kw_only=True):
    """The last stage, see `onward.py`: the whole student but the first `frozen` layers of its picture part goes on.

    The learning rate rises for `warm_up_steps`, stays, and falls to zero over the last `decay_share` of all steps.
    `views` are those of the finished student. The rest as in `Stage`, `Head` and `Late`.
    """

    steps: int
    windows: int
    micro: int
    frozen: int
    dropout: tuple[float, float]
    learning_rate: float
    warm_up_steps: int
    decay_share: float
    average: float
    window_weight: float
    focus: Focus
    views: tuple[View, ...] = (View(),)


class Teacher(Value, frozen=True, kw_only=True):
    """What a student learns from a teacher's cache beside its labels, in `stages`; a weight of 0 leaves a term out.

    `feature_weight`: its features at an instant are to tell the teacher's at `feature_shift_s` later (cosine).
    `score_weight`: its peak in a window is to be as sure as the teacher's "Yes" of it, both at `temperature` (Hinton et
    al. 2015). `boundary_weight`: its start and end heat follow the teacher's density where no label says the boundary.
    A checkpoint is written every `save_every` steps.
    """

    feature_weight: float = 0.5
    feature_shift_s: float = 1.0
    score_weight: float = 0.3
    temperature: float = 2.0
    boundary_weight: float = 0.2
    save_every: int = 50


class Optimiser(Value, frozen=True, kw_only=True):
    """AdamW under one cosine cycle over `stages`; `average` is the decay of the weights that are kept."""

    learning_rate: float
    weight_decay: float
    warm_up_share: float
    clip_norm: float
    average: float
    bfloat16: bool


class Recipe(Value, frozen=True, kw_only=True):
    """The whole of a recipe file."""

    name: str
    version: str
    seed: int
    scenes: Scenes
    pictures: Pictures
    shape: StudentShape
    targets: Targets
    windows: Windows
    loss: Loss
    optimiser: Optimiser
    stages: tuple[Stage, ...]
    teacher: Teacher | msgspec.UnsetType = msgspec.UNSET
    late: Late | None = None
    head: Head | None = None
    onward: Onward | None = None

    @property
    def final_shape(self) -> StudentShape:
        """The shape at the end of the run, where attention and views have joined."""
        views = self.shape.views if self.onward is None else self.onward.views
        attentive = self.shape.attentive or self.head is not None
        return msgspec.structs.replace(self.shape, attentive=attentive, views=views)


def load_recipe(name: str | Path) -> tuple[Recipe, str]:
    """The recipe called `name` in `export/recipes`, or the file at a path, and its text.

    Raises `ConfigError` for a file that is not there, is not TOML, or has an unknown, missing or ill-typed key, or a
    number that makes no sense.
    """
    found = find_recipe(name, "student-*.toml")
    recipe = found.read(Recipe)
    _check(recipe, found.path)
    return recipe, found.text


def _check(recipe: Recipe, path: Path) -> None:
    check_ranges(recipe, STUDENT, path)
    sizes = [(recipe.pictures.height, recipe.pictures.width), *((stage.height, stage.width) for stage in recipe.stages)]
    for height, width in sizes:
        if height % 32 or width % 32 or height < 32 or width < 32:
            raise ConfigError(f"recipe {path}: picture sides must divide by 32, found {height}x{width}")
    if not recipe.stages:
        raise ConfigError(f"recipe {path}: expected at least one table [[stages]], found none")
    if recipe.head is not None and recipe.late is None:
        raise ConfigError(f"recipe {path}: [head] learns from the copies of [late], found no table [late]; add one")
    focus = None if recipe.onward is None else recipe.onward.focus
    shown = [recipe.windows.frames, *([] if focus is None else [focus.frames])]
    if min(shown) < PEAK_FRAMES:
        raise ConfigError(f"recipe {path}: windows need frames of at least {PEAK_FRAMES}, found {min(shown)}")
    if focus is not None and focus.before + focus.after > focus.frames:
        raise ConfigError(
            f"recipe {path}: [onward.focus] needs before + after of at most frames, found {focus.before} + "
            f"{focus.after} and {focus.frames}"
        )
    if recipe.shape.planes != 1 + len(recipe.pictures.lags):
        raise ConfigError(f"recipe {path}: shape.planes must be 1 + the number of pictures.lags")
