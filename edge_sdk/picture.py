"""Plots: a clip's timeline beside the truth, the reliability of scores, the cost of few-bit weights by layer.

This is the only user of matplotlib outside `export` and `benchmarks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from edge_sdk.analysis import BOUNDARIES, AnalysedClip
from edge_sdk.bundle.proof import Evidence, MatrixError, Sensitivity
from edge_sdk.clips import SceneRecord
from edge_sdk.errors import BundleError
from edge_sdk.evaluation.tasks.calibration import Calibration
from edge_sdk.files import atomic_path

COLOURS = {"pre_crash_start": "#e0a000", "crash_start": "#d03030", "crash_end": "#3060c0"}


def draw_timeline(
    found: AnalysedClip, truth: SceneRecord, strip: Sequence[tuple[float, NDArray[np.uint8]]], out: Path
) -> None:
    """Write the plot of a clip's timeline to `out` as PNG, replacing what is there."""
    figure = Figure(figsize=(14, 7), layout="constrained")
    grid = figure.add_gridspec(3, max(1, len(strip)), height_ratios=[1.2, 2.2, 1.3])
    for column, (time_s, pixels) in enumerate(strip):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(pixels)
        axes.set_title(f"{time_s:.1f} s", fontsize=9)
        axes.axis("off")
    curves = figure.add_subplot(grid[1, :])
    draw_curves(curves, found)
    spans = figure.add_subplot(grid[2, :], sharex=curves)
    draw_spans(spans, found, truth)
    verdict = "crash" if found.analysis.crash.detected else "no crash"
    figure.suptitle(f"{truth.view}, {truth.light}, {truth.weather}: {verdict}, p = {found.analysis.crash.score:.2f}")
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def draw_curves(axes: Axes, found: AnalysedClip) -> None:
    """Per-frame scores over time."""
    times_s = [row.time_s for row in found.scores]
    axes.plot(times_s, [row.crash for row in found.scores], color="#d03030", label="crash")
    axes.plot(times_s, [row.pre_crash for row in found.scores], color="#e0a000", label="pre-crash")
    axes.plot(times_s, [row.start for row in found.scores], color="#d03030", ls=":", label="start heat (delayed)")
    axes.plot(times_s, [row.end for row in found.scores], color="#3060c0", ls=":", label="end heat (delayed)")
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("probability")
    axes.legend(loc="upper left", fontsize=8, ncols=4)
    axes.grid(alpha=0.3)


def draw_spans(axes: Axes, found: AnalysedClip, truth: SceneRecord) -> None:
    """Localised boundaries with their 80 % intervals above, the true spans below."""
    for event in found.analysis.events:
        for name in BOUNDARIES:
            estimate = getattr(event.timeline, name)
            if estimate is not None:
                axes.barh(1, estimate.hi - estimate.lo, left=estimate.lo, height=0.5, color=COLOURS[name], alpha=0.4)
                axes.plot([estimate.t], [1], marker="|", ms=22, mew=2.5, color=COLOURS[name])
    true_s = {name: getattr(truth, f"{name}_s") for name in BOUNDARIES}
    if true_s["crash_start"] is not None and true_s["crash_end"] is not None:
        axes.barh(
            0, true_s["crash_end"] - true_s["crash_start"], left=true_s["crash_start"], height=0.5, color="#d03030"
        )
        foreseeable_s = true_s["pre_crash_start"]
        if foreseeable_s is not None:
            axes.barh(0, true_s["crash_start"] - foreseeable_s, left=foreseeable_s, height=0.5, color="#e0a000")
    axes.set_yticks([0, 1], ["truth", "found, 80 %"])
    axes.set_ylim(-0.6, 1.6)
    axes.set_xlabel("seconds since the first decoded frame")
    axes.grid(alpha=0.3, axis="x")


def draw_reliability(series: Mapping[str, Calibration], out: Path) -> None:
    """Write a reliability diagram to `out` as PNG: predicted against observed crash rate, one line per series.

    All bins hold about the same number of clips (weighted); a perfectly calibrated score lies on the diagonal.
    """
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#999999", ls="--", lw=1)
    axes.set_prop_cycle(color=("#999999", "#d03030", "#3060c0", "#309040", "#e0a000", "#8040a0"))
    for name, found in series.items():
        said, happened = [each.said for each in found.bins], [each.happened for each in found.bins]
        error = "" if found.ece.value is None else f", calibration error {found.ece.value:.3f}"
        axes.plot(said, happened, marker="o", label=f"{name}{error}")
    axes.set(xlabel="score", ylabel="share with a crash", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(loc="upper left", fontsize=8)
    axes.grid(alpha=0.3)
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def draw_errors(evidence: Evidence, out: Path) -> None:
    """Write the figure of `errors_figure` to `out` as PNG; raises what that raises."""
    figure = errors_figure(evidence)
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def errors_figure(evidence: Evidence) -> Figure:
    """The error of every few-bit matrix by layer, a panel per decoder and vision tower, and the KL of each layer alone.

    Raises `BundleError` if no matrix of a layer has few bits.
    """
    parts: dict[str, list[MatrixError]] = {}
    for each in evidence.matrices:
        if ".layers." in each.name:
            parts.setdefault(each.decoder, []).append(each)
    if not parts:
        raise BundleError("no matrix of a layer is in few bits, so there is no error to draw")
    panels = len(parts) + bool(evidence.sensitivity)
    figure = Figure(figsize=(9, 0.5 + 3 * panels), layout="constrained")
    axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
    for (part, matrices), each_axes in zip(parts.items(), axes, strict=False):
        draw_matrices(each_axes, part, matrices)
    if evidence.sensitivity:
        draw_layers(axes[-1], evidence.sensitivity)
    for each_axes in axes:
        each_axes.set(xlabel="layer", axisbelow=True)
        each_axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        each_axes.grid(alpha=0.3)
    return figure


def draw_matrices(axes: Axes, part: str, matrices: Sequence[MatrixError]) -> None:
    """A line over the layers for each kind of matrix of one decoder or the tower; a ring marks those with more bits."""
    lowest = min(each.bits for each in matrices)
    lines: dict[str, list[tuple[int, float]]] = {}
    high = []
    for each in matrices:
        _, _, layer, linear, _ = each.name.split(".")
        point = int(layer), 100 * _error(each)
        lines.setdefault(linear, []).append(point)
        high += [point] if each.bits > lowest else []
    for linear, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker=".", label=linear)
    if high:
        axes.plot(*zip(*high, strict=True), "o", mfc="none", color="black", label="more bits")
    what = "error of weights, %" if matrices[0].output_error is None else "error of the product, %"
    axes.set(ylabel=f"{part}: {what}")
    axes.legend(fontsize=8, ncols=4)


def draw_layers(axes: Axes, decoders: Sequence[Sensitivity]) -> None:
    """A bar for each layer alone, with several decoders side by side; a line for the vision tower alone.

    The axis is logarithmic if the bars span a decade or more; over less, a log axis would exaggerate the differences.
    """
    width = 0.8 / len(decoders)
    for number, each in enumerate(decoders):
        places = [cost.layer + (number - (len(decoders) - 1) / 2) * width for cost in each.layers]
        bars = axes.bar(places, [cost.kl for cost in each.layers], width, label=each.decoder)
        if each.tower_kl:
            colour = bars.patches[0].get_facecolor()
            axes.axhline(each.tower_kl, color=colour, ls="--", label=f"{each.decoder}: the vision tower alone")
    costs = [cost.kl for each in decoders for cost in each.layers if cost.kl > 0]
    wide = bool(costs) and max(costs) >= 10 * min(costs)
    axes.set(ylabel="KL a token, the layer alone", yscale="log" if wide else "linear")
    axes.legend(fontsize=8)


def _error(matrix: MatrixError) -> float:
    return matrix.weight_error if matrix.output_error is None else matrix.output_error
