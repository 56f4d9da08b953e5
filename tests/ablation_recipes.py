"""Recipes of students that differ in what a teacher teaches them: student-demo's early stages, for fewer steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.recipe import Teacher, load_recipe
from edge_sdk.files import write_text

BASE, LABELS, ENDS = "student-demo", "labels", "boundaries"
# Labels alone, for about as many steps as those take that see further clips.
LONGER = "longer"
TERMS = {"features": "feature_weight", "scores": "score_weight", ENDS: "boundary_weight"}
# Those that see further clips: of the first four a teacher alone says what they show, of the last its labels.
FURTHER = TAUGHT, SCORED, TIMED, ALL_SCORED, TOLD = "taught", "scored", "timed", "all-scored", "told"
# A teacher whose word on whether there is a crash counts for more than all else that it says, or nearly all.
_SCORED = {"score_weight": 2.0}
WEIGHTS = {SCORED: _SCORED, TIMED: {**_SCORED, "boundary_weight": 1.0}, ALL_SCORED: _SCORED}
VARIANTS: dict[str, tuple[str, ...]] = {
    LABELS: (),
    **{term: (term,) for term in TERMS},
    "all": tuple(TERMS),
    TAUGHT: tuple(TERMS),
    SCORED: ("scores", ENDS),
    TIMED: ("scores", ENDS),
    ALL_SCORED: tuple(TERMS),
    TOLD: (),
    LONGER: (),
}


def write_recipe(folder: Path, variant: str, seed: int, epochs: Sequence[int], clips: int) -> Path:
    """student-demo's early stages for `epochs` on so many clips, with the teacher's losses of `variant`.

    The average of weights spans the same share of all steps as in student-demo: its own would hold the first weights.
    """
    recipe, text = load_recipe(BASE)
    asked = zip(recipe.stages, epochs, strict=False)
    stages = [msgspec.structs.replace(stage, epochs=count) for stage, count in asked if count]
    if not stages:
        raise ConfigError(f"expected epochs for one of the {len(recipe.stages)} stages of {BASE}, found {list(epochs)}")
    steps = sum(stage.epochs * max(1, clips // stage.windows) for stage in stages)
    usual = sum(stage.epochs * (recipe.scenes.training.count // stage.windows) for stage in recipe.stages)
    average, pictures, last = recipe.optimiser.average, recipe.pictures, stages[-1]
    changes = {
        f'name = "{BASE}"': f'name = "ablation-{variant}"',
        f"\nseed = {recipe.seed}\n": f"\nseed = {seed}\n",
        f"height = {pictures.height}\nwidth = {pictures.width}\n": f"height = {last.height}\nwidth = {last.width}\n",
        f"\naverage = {average}\n": f"\naverage = {max(0.5, 1 - (1 - average) * usual / steps):.4f}\n",
    }
    head = text[text.index("name = ") : text.index("[[stages]]")]
    for old, new in changes.items():
        if head.count(old) != 1:
            raise ConfigError(f"expected {old!r} once in recipe {BASE}, found {head.count(old)}; mend this script")
        head = head.replace(old, new)
    usual_weights = {field: getattr(Teacher(), field) * (term in VARIANTS[variant]) for term, field in TERMS.items()}
    teacher = usual_weights | WEIGHTS.get(variant, {})
    tables = [*(("[[stages]]", msgspec.structs.asdict(stage)) for stage in stages), ("[teacher]", teacher)]
    parts = ["\n".join([name, *(f"{key} = {value}" for key, value in keys.items())]) for name, keys in tables]
    path = folder / f"student-{variant}-{seed}.toml"
    write_text(path, head + "\n\n".join(parts) + "\n")
    return path
