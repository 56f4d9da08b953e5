"""A recipe of CrashChat-mini: everything that decides what it becomes, in one TOML file.

A recipe, a seed and the same clips give the same model, as far as torch's kernels allow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edge_sdk.errors import ConfigError
from edge_sdk.export.mini.ranges import LANGUAGE
from edge_sdk.export.ranges import check_ranges
from edge_sdk.export.recipe_file import find_recipe
from edge_sdk.reasoning.grid import find_profile
from edge_sdk.types import Value


class Seeds(Value, frozen=True, kw_only=True):
    """Rendered scenes of a family with the seeds `first .. first + count - 1`; without a `count`, its test suite."""

    family: str
    first: int = 0
    count: int | None = None
    fps: float = 10.0


class Scenes(Value, frozen=True, kw_only=True):
    """Which scenes are rendered for training and for scoring."""

    training: tuple[Seeds, ...]
    held_out: tuple[Seeds, ...]


class Sizes(Value, frozen=True, kw_only=True):
    """Sizes of the model: one width for tower and decoder. `vocabulary` counts every token, bytes and control too."""

    hidden: int
    heads: int
    kv_heads: int
    tower_layers: int
    tower_intermediate: int
    decoder_layers: int
    decoder_intermediate: int
    vocabulary: int


class Windows(Value, frozen=True, kw_only=True):
    """Which part of a clip an example shows.

    `whole` is the share of examples that show all of it, as `analyze` does; the others show at least the profile's own
    length, or exactly `frames` at its rate where that is given. A crash begins at least `least_s` before the end of the
    part, or at least `least_s` after it.
    """

    whole: float
    least_s: float
    frames: int | None = None


class Views(Value, frozen=True, kw_only=True):
    """How much of its pictures an example shows: all with probability `whole`, else a part of `least` to 1 in width.

    `light`: how far brightness, contrast and colour are changed, as the deviation of the logarithm of their factors.
    """

    whole: float = 1.0
    least: float = 1.0
    light: float = 0.0


class Stage(Value, frozen=True, kw_only=True):
    """One stage of training: linear warm-up, then half a cosine. `batch` counts frames for the tower, else clips.

    `muon`: matrices of the layers are trained by Muon (Jordan et al. 2024), whose updates have the size of AdamW's at
    the same rate; all other weights, and all weights where it is false, by AdamW.
    """

    steps: int
    batch: int
    learning_rate: float
    muon: bool = False
    weight_decay: float = 0.01
    warm_up_share: float = 0.05
    clip_norm: float = 1.0
    save_every: int = 100


class Auxiliary(Value, frozen=True, kw_only=True):
    """Weights of the losses in addition to the one on words, on heads that are dropped when pre-training ends.

    `patches`: vehicles as the tower sees them; `tokens`: vehicles and their motion as the decoder sees them; `moments`:
    what has happened by each frame; `places`: which tokens show a crash.
    """

    patches: float
    tokens: float
    moments: float
    places: float


class Phase(Value, frozen=True, kw_only=True):
    """A part of pre-training: what is shown, and how many `questions` about driving are asked about it.

    `sayings` sentences to repeat go with them, so that every word has been read and said before an adapter needs it.
    """

    stage: Stage
    windows: Windows
    questions: int
    sayings: int = 0


class Language(Value, frozen=True, kw_only=True):
    """Pre-training of tower, projector and decoder together, phase by phase."""

    phases: tuple[Phase, ...]
    auxiliary: Auxiliary


class Tuning(Value, frozen=True, kw_only=True):
    """One LoRA adapter by CrashChat's recipe, with its own learning rate and rank; alpha / rank is CrashChat's.

    `questions`: how many of the adapter's tasks are asked about each clip, its first one always included; `driving`:
    how many questions of pre-training are added, so that what they taught is not forgotten.
    """

    stage: Stage
    questions: int
    rank: int
    alpha: float
    dropout: float
    driving: int = 0


class Recipe(Value, frozen=True, kw_only=True):
    """The whole of a recipe file. `precision` is accelerate's: "no" for float32, "bf16" where that is fast.

    Without `tower` and `language`, only adapters are tuned, on the model of an existing bundle. A recipe that is
    `onward` also needs such a bundle, and trains its whole model further.
    """

    name: str
    version: str
    seed: int
    profile: str
    scenes: Scenes
    sizes: Sizes
    windows: Windows
    views: Views
    linguistic: Tuning
    perception: Tuning
    tower: Stage | None = None
    language: Language | None = None
    precision: Literal["no", "bf16"] = "no"
    onward: bool = False

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of language pre-training."""
        return self.language.phases if self.language else ()

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages in the order in which they are run."""
        towers = (self.tower,) if self.tower else ()
        return (*towers, *(phase.stage for phase in self.phases), self.linguistic.stage, self.perception.stage)


def load_recipe(name: str | Path) -> tuple[Recipe, str]:
    """Load the recipe called `name` in `export/recipes`, or the file at a path; returns it and its text.

    Raises `ConfigError` for a file that does not exist, is not TOML, or has an unknown, missing or unusable key.
    """
    found = find_recipe(name, "language-*.toml")
    recipe = found.read(Recipe)
    _check(recipe, found.path)
    return recipe, found.text


def _check(recipe: Recipe, path: Path) -> None:
    find_profile(recipe.profile)
    check_ranges(recipe, LANGUAGE, path)
    if recipe.language is not None and not recipe.language.phases:
        raise ConfigError(f"recipe {path}: expected at least one [[language.phases]], found none")
    sizes = recipe.sizes
    if sizes.hidden % (4 * sizes.heads) or sizes.heads % sizes.kv_heads:
        raise ConfigError(
            f"recipe {path}: sizes.hidden must be a multiple of 4 x heads (2-D RoPE), and heads of kv_heads, found "
            f"{sizes.hidden}, {sizes.heads} and {sizes.kv_heads}"
        )
    if not 2_000 <= sizes.vocabulary <= 4_096:
        raise ConfigError(f"recipe {path}: sizes.vocabulary must be 2000..4096, found {sizes.vocabulary}")
    _check_stages(recipe, path)


def _check_stages(recipe: Recipe, path: Path) -> None:
    if (recipe.tower is None) != (recipe.language is None):
        raise ConfigError(f"recipe {path}: expected both of [tower] and [language], or neither to tune adapters alone")
    for windows in (recipe.windows, *(phase.windows for phase in recipe.phases)):
        if windows.frames is not None and (windows.whole or windows.frames < 2):
            raise ConfigError(
                f"recipe {path}: windows of a number of frames need whole = 0 and 2 frames at least, found {windows}"
            )
    if recipe.windows.frames is not None:
        raise ConfigError(
            f"recipe {path}: expected no frames in [windows], which adapters see, found {recipe.windows.frames}: they "
            "see the whole clip where a part has no answer to a question; put frames into the windows of a phase"
        )
