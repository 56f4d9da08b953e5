"""The picture of what few bits cost, before it is drawn and as it is drawn: heights follow the numbers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_sdk.bundle.proof import AnswerChange, Evidence, LayerCost, MatrixError, Sensitivity
from edge_sdk.errors import BundleError
from edge_sdk.picture import draw_errors, errors_figure

TOGETHER = AnswerChange(steps=1, equal_tokens=1, mean_kl=0.1, largest_kl=0.1)
# By decoder, kind and layer: errors of products, of which the last matrix's is of 8 bits.
PRODUCTS = {("base", "q"): (0.02, 0.04, 0.08), ("base", "down"): (0.10, 0.05, 0.004), ("other", "q"): (0.2, 0.1, 0.3)}
TOWER = (0.006, 0.012)
KL = {"base": (0.001, 0.01, 0.1), "other": (0.02, 0.02, 0.002)}


def matrix(part: str, name: str, error: float, *, products: bool, bits: int = 4) -> MatrixError:
    # The other error is there too, and must not be what is drawn.
    return MatrixError(
        decoder=part,
        name=name,
        bits=bits,
        block=16,
        weight_error=0.5 if products else error,
        output_error=error if products else None,
    )


def evidence() -> Evidence:
    matrices = [
        matrix(part, f"decoder.layers.{layer}.{kind}.weight", error, products=True, bits=8 if error == 0.004 else 4)
        for (part, kind), errors in PRODUCTS.items()
        for layer, error in enumerate(errors)
    ]
    matrices += [
        matrix("vision", f"vision.layers.{layer}.fc1.weight", error, products=False, bits=8)
        for layer, error in enumerate(TOWER)
    ]
    matrices.append(matrix("base", "decoder.head.weight", 0.9, products=False))
    sensitivity = [
        Sensitivity(
            decoder=name,
            layers=tuple(LayerCost(layer=layer, kl=kl, linears={}) for layer, kl in enumerate(costs)),
            head_kl=0.0,
            tower_kl=0.005 if name == "base" else 0.0,
            together=TOGETHER,
        )
        for name, costs in KL.items()
    ]
    return Evidence(matrices=tuple(matrices), graphs={}, answers={}, sensitivity=tuple(sensitivity))


def test_lines_bars_and_rings_stand_at_their_numbers() -> None:
    base, other, tower, layers = errors_figure(evidence()).axes
    for axes, part in ((base, "base"), (other, "other")):
        drawn = {str(line.get_label()): line.get_xydata() for line in axes.lines}
        for (owner, kind), errors in PRODUCTS.items():
            if owner == part:
                np.testing.assert_allclose(drawn[kind], [(n, 100 * error) for n, error in enumerate(errors)])
        assert axes.get_ylabel() == f"{part}: error of the product, %"
    rings = next(line for line in base.lines if line.get_label() == "more bits")
    np.testing.assert_allclose(rings.get_xydata(), [(2, 0.4)])
    assert [line.get_label() for line in other.lines] == ["q"]
    (line,) = tower.lines
    np.testing.assert_allclose(line.get_xydata(), [(0, 0.6), (1, 1.2)])
    assert tower.get_ylabel() == "vision: error of weights, %"
    for bars, name in zip(layers.containers, KL, strict=True):
        np.testing.assert_allclose([bar.get_height() for bar in bars], KL[name])
        assert [round(bar.get_x() + bar.get_width() / 2) for bar in bars] == [0, 1, 2]
    assert layers.get_yscale() == "log"
    (alone,) = layers.lines
    assert list(alone.get_ydata()) == [0.005, 0.005]


def test_bars_that_are_much_alike_stand_on_zero() -> None:
    costs = tuple(LayerCost(layer=layer, kl=0.001 + 0.0002 * layer, linears={}) for layer in range(3))
    found = evidence()
    alike = msgspec.structs.replace(found.sensitivity[1], layers=costs)
    layers = errors_figure(msgspec.structs.replace(found, sensitivity=(alike,))).axes[-1]
    assert layers.get_yscale() == "linear"
    assert layers.get_ylim()[0] == 0


def test_bars_in_the_file_are_as_high_as_the_logarithms_of_their_numbers(tmp_path: Path) -> None:
    found = evidence()
    figure = errors_figure(found)
    draw_errors(found, tmp_path / "errors.png")
    with Image.open(tmp_path / "errors.png") as picture:
        assert picture.size == (900, 1250)
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    colour = np.round(255 * np.array(figure.axes[-1].patches[0].get_facecolor()[:3])).astype(int)
    # The lowest panel alone; the first decoder's bars are what stands on its floor.
    lowest = (np.abs(pixels[950:] - colour) < 3).all(2)
    floor = int(np.flatnonzero(lowest.any(1)).max())
    columns = np.flatnonzero(lowest[floor - 2])
    bars = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    heights = [int(np.argmin(lowest[floor::-1, bar[len(bar) // 2]])) for bar in bars]
    assert len(heights) == 3
    # A tenfold KL is a step of one height, wherever the axis begins.
    steps = np.diff(heights)
    assert steps[0] > 20
    assert steps[1] == pytest.approx(steps[0], rel=0.08)


def test_evidence_without_layers_has_no_picture() -> None:
    with pytest.raises(BundleError, match="no matrix of a layer is in few bits"):
        errors_figure(Evidence(matrices=(), graphs={}, answers={}))
