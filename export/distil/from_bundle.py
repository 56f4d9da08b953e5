"""A student loaded from its bundle as a torch module, to be fine-tuned.

The graph holds every weight under its name in the module, with normalisations folded into the convolutions. Training
continues without them. With a few hundred clips this is no loss: batch statistics of so few would be noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest import Student as StudentEntry
from edge_sdk.bundle.student_origin import CLIPS_SEEN, student_origin
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.export.distil.recipe import Pictures, Recipe
from edge_sdk.export.graphs.student import Student
from edge_sdk.verify.comparison import compare
from edge_sdk.verify.graphs import GraphCase, reference_case

# The exporter's name for the module inside `student_onnx`.
_PREFIX = "student."
# Layers that only training uses are not in the graph, and start with new weights.
TRAINING_ONLY = ("flow.",)


def load_student(bundle: Bundle) -> tuple[Student, Recipe]:
    """Load the student of `bundle`, normalisations folded, and its recipe, at the picture size the bundle runs at.

    The module's outputs are compared with the bundle's reference outputs. Raises `ConfigError` for a bundle without a
    student or without its recipe, `BundleError` for a graph that the recipe's module did not write.
    """
    entry = bundle.manifest.student
    if entry is None:
        raise ConfigError(f"bundle {bundle.manifest.name!r} has no student; give one that has")
    recipe = _at_size(_recipe_of(bundle), entry)
    model = Student(recipe.shape).fuse()
    _fill(model, _weights(bundle.graph(entry.graph)[1]), bundle)
    _check(model, reference_case(bundle, entry.graph), bundle)
    return model, recipe


def recipe_text(bundle: Bundle) -> str:
    """The text of the recipe that made the student of `bundle`. Raises `ConfigError` where provenance has none."""
    text = student_origin(bundle)["provenance"].get("recipe")
    if not isinstance(text, str):
        raise ConfigError(
            f"bundle {bundle.manifest.name!r} does not say by which recipe its student was made (provenance.recipe); "
            "expected one that `edge-sdk distil student` wrote"
        )
    return text


# Any: see Manifest.provenance.
def origin(bundle: Bundle) -> dict[str, Any]:
    """The provenance entry `start` of a student that continued from another one; empty for other students."""
    known = student_origin(bundle)["provenance"]
    return {"start": known["start"]} if "start" in known else {}


# Any: see Manifest.provenance.
def as_start(bundle: Bundle) -> dict[str, Any]:
    """What a student that continues from the one in `bundle` records of it: its digest, its making and its tuning."""
    known = student_origin(bundle)["provenance"]
    made = {"bundle": bundle.manifest.name, "sha256": bundle.sha256, "recipe": recipe_text(bundle)}
    return made | {key: known[key] for key in ("tuning", "tuned_from", "start", CLIPS_SEEN) if key in known}


def _recipe_of(bundle: Bundle) -> Recipe:
    """The recipe of a bundle's student, with the shape at the end of the run: attention and views added."""
    try:
        recipe = msgspec.toml.decode(recipe_text(bundle), type=Recipe)
    except msgspec.DecodeError as error:
        raise ConfigError(f"bundle {bundle.manifest.name!r}: its student's recipe is not usable: {error}") from error
    return msgspec.structs.replace(recipe, shape=recipe.final_shape)


def _at_size(recipe: Recipe, entry: StudentEntry) -> Recipe:
    pictures = Pictures(rate_hz=entry.rate_hz, height=entry.height, width=entry.width, lags=entry.lags)
    return msgspec.structs.replace(recipe, pictures=pictures)


def _weights(graph: Path) -> dict[str, Tensor]:
    tensors = onnx.load(str(graph)).graph.initializer
    return {
        tensor.name.removeprefix(_PREFIX): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in tensors
        if tensor.name.startswith(_PREFIX)
    }


def _fill(model: Student, weights: Mapping[str, Tensor], bundle: Bundle) -> None:
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    absent = [name for name in wanted.keys() - weights.keys() if not name.startswith(TRAINING_ONLY)]
    unlike = [name for name, value in weights.items() if wanted.get(name) != tuple(value.shape)]
    if absent or unlike:
        raise BundleError(
            f"bundle {bundle.manifest.name!r}: its student's graph does not hold the weights of its recipe; absent: "
            f"{sorted(absent)[:3]}, of another shape: {sorted(unlike)[:3]}"
        )
    model.load_state_dict(weights, strict=False)


def _check(model: Student, case: GraphCase | None, bundle: Bundle) -> None:
    """Compare outputs: equal weights alone do not prove that the module computes what the graph does."""
    if case is None:
        return
    given = {name: torch.from_numpy(value).float() for name, value in case.inputs.items()}
    states = [given[name] for name in sorted((n for n in given if n != "frames"), key=lambda n: int(n.split(".")[1]))]
    with torch.inference_mode():
        scores, _ = model.step(given["frames"], states)
    found = compare(scores.numpy(), case.outputs["scores"])
    if not found.within(case.max_relative_error):
        raise BundleError(
            f"bundle {bundle.manifest.name!r}: this version's student does not compute its reference outputs "
            f"({found.problem or found.relative_error}); use the version that made it"
        )
