"""Find the range of each value from its histogram over clips, by ONNX Runtime's own calibration methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from onnx import ModelProto

from edge_sdk.bundle.manifest import Graph
from edge_sdk.errors import ConfigError
from edge_sdk.export.quantise.student.frames import Floats, FrameLoop, SeenClip
from edge_sdk.export.quantise.student.layers import joined_values
from edge_sdk.export.quantise.student.native import Histograms
from edge_sdk.export.quantise.student.recipe import Method, StudentRecipe

Found = dict[str, tuple[float, float]]
# Frames of one clip look alike: every fifth frame tells as much in a fifth of the time.
_STRIDE = 5


def calibrated_ranges(
    model: ModelProto, graph: Graph, clips: Sequence[SeenClip], values: Sequence[str], recipe: StudentRecipe
) -> dict[Method, Found]:
    """The range, lowest and highest, of each of `values`, by each method of the recipe.

    Raises `ConfigError` for a value that is not finite.
    """
    extremes: Found = {}
    collectors = {method: Histograms(method, recipe.percentile) for method in recipe.methods if method != "max"}
    loop = FrameLoop(model, graph, values)
    for clip in clips:
        seen = _stacked(loop, clip, values)
        for name, array in seen.items():
            _check(name, array)
            low, high = extremes.get(name, (0.0, 0.0))
            extremes[name] = min(low, float(array.min())), max(high, float(array.max()))
        for collector in collectors.values():
            collector.add(seen)
    found: dict[Method, Found] = {"max": extremes} if "max" in recipe.methods else {}
    for method, collector in collectors.items():
        limits = collector.limits()
        found[method] = {name: _within(extremes[name], limits[name]) for name in values}
    return {method: _shared(model, ranges) for method, ranges in found.items()}


def _stacked(loop: FrameLoop, clip: SeenClip, values: Sequence[str]) -> Mapping[str, Floats]:
    taken = [feeds | found for feeds, found in _every(_STRIDE, loop, clip)]
    return {name: np.stack([each[name] for each in taken]) for name in values}


def _every(stride: int, loop: FrameLoop, clip: SeenClip) -> Iterator[tuple[dict[str, Floats], dict[str, Floats]]]:
    for index, (feeds, found) in enumerate(loop.walk(clip)):
        if index % stride == 0:
            yield dict(feeds), dict(found)


def _check(name: str, array: Floats) -> None:
    if not np.isfinite(array).all():
        raise ConfigError(
            f"{name}: the student gave NaN or infinity on a calibration clip; check the bundle with edge-sdk verify"
        )


def _within(extremes: tuple[float, float], limits: tuple[float, float]) -> tuple[float, float]:
    """A method's limits, clipped to the observed extremes, so that a value that is never negative stays so."""
    return max(limits[0], extremes[0]), min(limits[1], extremes[1])


def _shared(model: ModelProto, ranges: Found) -> Found:
    """Give all values that are concatenated the widest of their ranges."""
    found = dict(ranges)
    for _ in range(2):  # a value may stand in two joins
        for names in joined_values(model, list(found)):
            low, high = min(found[name][0] for name in names), max(found[name][1] for name in names)
            found |= dict.fromkeys(names, (low, high))
    return found
