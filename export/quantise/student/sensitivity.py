"""Measure how much each layer's rounding changes the scores, and choose the layers that stay in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from onnx import ModelProto

from edge_sdk.bundle.manifest import Graph
from edge_sdk.bundle.student_proof import LayerChoice
from edge_sdk.export.quantise.student.frames import Floats, FrameLoop, SeenClip
from edge_sdk.export.quantise.student.integers import Ranges, with_integers
from edge_sdk.export.quantise.student.layers import Layer
from edge_sdk.export.quantise.student.recipe import StudentRecipe


class Trial:
    """A student on clips, with which rounded versions of it are compared: `exact` are its own scores."""

    def __init__(self, model: ModelProto, graph: Graph, clips: Sequence[SeenClip]) -> None:
        self.model, self._graph, self._clips = model, graph, clips
        self.exact: Floats = FrameLoop(model, graph).scores(clips)

    def error(self, layers: Sequence[Layer], ranges: Ranges, *, unsigned: bool = True) -> float:
        """Mean difference of the scores, over frames and scores, where `layers` are in 8 bits."""
        made = with_integers(self.model, layers, ranges, unsigned=unsigned)
        return float(np.abs(FrameLoop(made, self._graph).scores(self._clips) - self.exact).mean())

    def worst(self, layers: Sequence[Layer], ranges: Ranges) -> float:
        """The larger error of the two graphs, whose scores differ where values are clipped."""
        return max(self.error(layers, ranges, unsigned=each) for each in (False, True))


def choose_layers(
    trial: Trial,
    layers: Sequence[Layer],
    ranges: Ranges,
    recipe: StudentRecipe,
    on_layer: Callable[[int, int], object],
) -> tuple[tuple[Layer, ...], tuple[LayerChoice, ...]]:
    """The layers to round to 8 bits, and the measurements of each layer.

    The most sensitive layers return to float32, one after the other, until the scores differ by no more than the recipe
    allows; possibly none is left in 8 bits.
    """
    errors = {}
    for done, layer in enumerate(layers):
        errors[layer.name] = trial.worst([layer], ranges)
        on_layer(done + 1, len(layers))
    why = dict.fromkeys(recipe.float_layers, "asked for by the recipe")
    chosen = [layer for layer in layers if layer.name not in why]
    limit = recipe.max_score_error
    while chosen and (found := trial.worst(chosen, ranges)) > limit:
        worst = max(chosen, key=lambda layer: errors[layer.name])
        chosen.remove(worst)
        why[worst.name] = f"scores differed by {found:.2g} with it, {limit:g} is allowed, and it was the most sensitive"
    choices = tuple(
        LayerChoice(
            name=layer.name, score_error=errors[layer.name], float32=layer.name in why, why=why.get(layer.name, "")
        )
        for layer in layers
    )
    return tuple(chosen), choices
