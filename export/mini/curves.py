"""The picture of a course: the loss of each stage, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edge_sdk.export.distil.curves import new_figure
from edge_sdk.files import atomic_path

_SMOOTH = 25


def draw_curves(path: Path, losses: Mapping[str, Sequence[float]]) -> None:
    """Write a PNG with one plot per stage of several steps: the loss of every step, and its running mean."""
    losses = {name: values for name, values in losses.items() if len(values) > 1} or losses
    figure = new_figure(3.2 * len(losses), 2.8)
    for plot, (name, values) in zip(figure.subplots(1, len(losses), squeeze=False)[0], losses.items(), strict=True):
        width = min(_SMOOTH, len(values))
        plot.plot(values, color="#bbbbbb", linewidth=0.6)
        if width:
            plot.plot(
                np.arange(width - 1, len(values)), np.convolve(values, np.ones(width) / width, "valid"), color="#222222"
            )
        plot.set(title=name, xlabel="step", ylabel="loss", yscale="log")
    with atomic_path(path) as stage:
        figure.savefig(stage, dpi=110)
