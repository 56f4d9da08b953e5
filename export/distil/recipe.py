"""A recipe: everything that decides what a student becomes, in one TOML file beside this package.

A recipe, a seed and the same clips give the same student, as far as torch's CPU kernels allow. Its text goes into the
bundle's provenance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.ranges import STUDENT
from edge_sdk.export.graphs.student import StudentShape
from edge_sdk.export.graphs.views import View
from edge_sdk.export.ranges import check_ranges
from edge_sdk.export.recipe_file import find_recipe
from edge_sdk.types import Value

# A window's peak is the mean of its highest logits, of this many frames: as in the longest confirmation of an alarm.
PEAK_FRAMES = 5


class Seeds(Value, frozen=True, kw_only=True):
    """Rendered scenes of the first `count` seeds from `first` on, or only of seeds of one kind; see `choose_seeds`.

    `family` is named as in `edge-sdk scenes render`; only the family "first" can tell kinds apart by seed.
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
    """The scenes that are rendered for training, for validation, and as the demo clip inside the bundle.

    The `further` ones are shown only in the last stage, [onward].
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
    """How labels become per-frame targets. Heat is `heat_delay_frames` late, so that the student sees what followed.

    A crash counts as lasting for at least `aftermath_s` after its start: often only what the vehicles do next
    distinguishes it from a near miss.
    """

    heat_delay_frames: int
    heat_sigma_s: float
    aftermath_s: float


class Windows(Value, frozen=True, kw_only=True):
    """The form of one training example.

    It is `frames` long; `splice_share` of the windows are joined from two clips by a hard cut. Frames before
    `warm_up_s` have the weight `warm_up_weight` in the loss, because too little has been seen by then.
    """

    frames: int
    splice_share: float
    warm_up_s: float
    warm_up_weight: float


class Loss(Value, frozen=True, kw_only=True):
    """Loss weights of the four scores, and of a positive frame relative to a negative one; the same for the maps.

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
    """The stage after [[stages]], on picture features kept on disk; see `late.py`.

    Every clip has `copies` copies, the first as it is and the others augmented. `window_weight` replaces that of the
    loss; `map_weight` scales the loss of the maps. The optimiser's other settings apply too, in one more cosine cycle.
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
    """The end of the run, see `head.py`; a step takes `windows` windows from the copies of the late stage.

    `dropout` holds the shares dropped in training: of a frame's pooled features, and of what the memory adds to them.
    `window_weight` replaces that of the loss.
    """

    epochs: int
    windows: int
    dropout: tuple[float, float]
    learning_rate: float
    average: float
    window_weight: float


class Focus(Value, frozen=True, kw_only=True):
    """Windows of `frames` around incidents, see `focus.py`.

    `share` of the pieces contain the incident's frame, at least `before` frames from their start and `after` from their
    end. Clips that involve the camera's own car have the weight `own_car` when clips are drawn, those without incident
    `normal`. `zoomed` of the windows are enlarged about `zoom` times; `splice_share` as in `Windows`.
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
    """The last stage, see `onward.py`: all of the student is trained but the first `frozen` layers of its picture part.

    The learning rate rises over `warm_up_steps`, is then constant, and falls to zero over the last `decay_share` of all
    steps. `views` are those of the finished student. Other settings are as in `Stage`, `Head` and `Late`.
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
    """What a student learns from a teacher's cache in addition to labels, in `stages`; a weight of 0 disables a term.

    `feature_weight`: its features predict the teacher's features `feature_shift_s` later (cosine). `score_weight`: its
    peak in a window matches the teacher's probability of "Yes", both at `temperature` (Hinton et al. 2015).
    `boundary_weight`: its crash score, start heat and end heat follow the teacher's densities where no label gives
    them. A checkpoint is written every `save_every` steps.
    """

    feature_weight: float = 0.5
    feature_shift_s: float = 1.0
    score_weight: float = 0.3
    temperature: float = 2.0
    boundary_weight: float = 0.2
    save_every: int = 50


class Optimiser(Value, frozen=True, kw_only=True):
    """AdamW with one cosine cycle over `stages`; `average` is the decay of the averaged weights, which are kept."""

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
        """The shape at the end of the run, with attention and views added."""
        views = self.shape.views if self.onward is None else self.onward.views
        attentive = self.shape.attentive or self.head is not None
        return msgspec.structs.replace(self.shape, attentive=attentive, views=views)


def load_recipe(name: str | Path) -> tuple[Recipe, str]:
    """Load the recipe called `name` in `export/recipes`, or the file at a path; returns it and its text.

    Raises `ConfigError` for a file that does not exist, is not TOML, or has an unknown, missing or ill-typed key, or a
    number out of range.
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
            raise ConfigError(f"recipe {path}: picture sides must be multiples of 32, found {height}x{width}")
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
