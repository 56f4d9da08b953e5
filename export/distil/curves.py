"""The picture of a training run: loss and validation metrics by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from edge_sdk.export.distil.evaluate import Metrics
from edge_sdk.files import atomic_path


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of `width` x `height` inches that needs no window to be drawn."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_curves(path: Path, losses: Sequence[float], metrics: Sequence[Metrics | None]) -> None:
    """Write a PNG: training loss per epoch, and beside it the metrics of the epochs that were validated."""
    figure = new_figure(9, 3.5)
    left, right = figure.subplots(1, 2)
    left.plot(range(1, len(losses) + 1), losses, color="#444444")
    left.set(title="training loss", xlabel="epoch")
    measured = [(epoch, found) for epoch, found in enumerate(metrics, start=1) if found is not None]
    for name in ("clip_ap", "best_f1", "frame_auc", "start_mae_s"):
        points = [(epoch, getattr(found, name)) for epoch, found in measured]
        kept = [(epoch, value) for epoch, value in points if not math.isnan(value)]
        if kept:
            right.plot(*zip(*kept, strict=True), marker=".", label=name)
    right.set(title="validation", xlabel="epoch", ylim=(0, 1.05))
    if right.lines:
        right.legend(fontsize=8, loc="lower right")
    with atomic_path(path) as stage:
        figure.savefig(stage, dpi=110)
