"""The live benchmarks as pictures: a histogram of ages, the knee over the number of sources, memory over reconnects.

The functions take plain numbers, so that the benchmarks stay independent and only this module of the live benchmarks
uses matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from edge_sdk.files import atomic_path


def draw_ages(title: str, ages_ms: Sequence[float], marks_ms: dict[str, float], out: Path) -> None:
    """A histogram with its quantiles and its target as lines, written to `out` as PNG."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    axes.hist(ages_ms, bins=np.arange(0.0, max(ages_ms) + 2.0, 2.0).tolist(), color="#3060c0")
    for number, (name, value) in enumerate(marks_ms.items()):
        style = ":" if name == "target" else "--"
        axes.axvline(value, color=f"C{number + 1}", ls=style, label=f"{name} {value:.1f} ms")
    axes.set(xlabel="ms from drawing in the camera to the student's scores", ylabel="due rounds", title=title)
    axes.legend()
    _save(figure, out)


def draw_knee(
    title: str,
    sources: Sequence[int],
    p50_ms: Sequence[float],
    p95_ms: Sequence[float],
    fresh: Sequence[float],
    limit_ms: float,
    out: Path,
) -> None:
    """Age and the share of rounds with a fresh frame over the number of sources, written to `out` as PNG."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(sources, p95_ms, "o-", color="#d03030", label="age p95, worst source")
    axes.plot(sources, p50_ms, "o-", color="#3060c0", label="age p50, worst source")
    axes.axhline(limit_ms, color="#d03030", ls=":", label=f"limit {limit_ms:g} ms")
    axes.set(xlabel="sources", ylabel="ms", title=title, xticks=list(sources), yscale="log")
    axes.legend(loc="upper left")
    right = axes.twinx()
    right.plot(sources, [100 * share for share in fresh], "s--", color="#40a040", label="fresh frames")
    right.set(ylabel="rounds with a fresh frame, worst source, %", ylim=(0, 105))
    right.legend(loc="lower left")
    _save(figure, out)


def draw_memory(
    title: str, reconnects: Sequence[int], resident_kb: Sequence[float], slope_kb: float, out: Path
) -> None:
    """Resident memory over the count of reconnects with the fitted slope, written to `out` as PNG."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        reconnects, np.asarray(resident_kb) / 1024, color="#3060c0", label=f"slope {slope_kb:+.3f} KB a reconnect"
    )
    axes.set(xlabel="reconnects", ylabel="resident memory, MiB", title=title)
    axes.legend()
    axes.grid(alpha=0.3)
    _save(figure, out)


def _save(figure: Figure, out: Path) -> None:
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
