"""Pieces of clips for the clip-level question "is there a crash in this?", without other cues.

Positives are cut around the start at a random offset. Negatives are cut from normal clips, and from before the crash of
crash clips. The lengths of both classes have one distribution: at each quantile, the shorter of the lengths that the
two classes can offer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.evaluation.samples import SLACK, Footage, Kind, generator_for

MIN_WINDOW_S = 2.0
MAX_WINDOW_S = 6.0
# A pre-crash piece ends at least this long before the crash's start, and comes from a file whose crash starts late
# enough.
PRE_CRASH_GAP_S = 1.5
PRE_CRASH_MIN_START_S = 3.5
# The least that a crash piece shows before and after the start, if the file has it.
LEAD_S = 0.5
TAIL_S = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """A piece of footage, from `begin_s` to `end_s` of the source file; its own time starts at 0."""

    footage: Footage
    kind: Kind
    begin_s: float
    end_s: float


def plan_windows(footage: Sequence[Footage], seed: int) -> list[Window]:
    """Choose the pieces so that, in each view, both classes have one distribution of lengths.

    Footage that cannot give `MIN_WINDOW_S` is left out, and a crash whose start is not visible gives no crash piece.
    """
    windows: list[Window] = []
    crash: Kind = "crash"
    for view in sorted({item.clip.view for item in footage}):
        chosen = [item for item in footage if item.clip.view == view]
        positives = [(item, crash) for item in chosen if can_show_crash(item)]
        negatives = [(item, kind) for item in chosen for kind in negative_kinds(item)]
        windows.extend(_matched(positives, negatives, seed))
    return windows


def can_show_crash(item: Footage) -> bool:
    """Whether `item` can give a piece that contains the start of its crash."""
    return item.clip.crash and item.shows_start and item.content_s >= MIN_WINDOW_S


def negative_kinds(item: Footage) -> Iterator[Kind]:
    """Yield the kind of negative that `item` can give: a normal piece, a pre-crash piece, or nothing."""
    kind: Kind = "pre_crash" if item.clip.crash else "normal"
    early = item.clip.crash and (item.clip.start_s is None or item.clip.start_s < PRE_CRASH_MIN_START_S)
    if not early and _room_s(item, kind) >= MIN_WINDOW_S:
        yield kind


def no_window(item: Footage) -> str:
    """Say why `plan_windows` takes no piece of `item`."""
    length, start_s = f"{item.content_s:.1f} s of content", item.clip.start_s
    if item.content_s < MIN_WINDOW_S:
        return f"{length}, {MIN_WINDOW_S:g} s needed"
    if item.clip.crash and start_s is None:
        return "its start is not labelled"
    if start_s is not None and not item.shows_start:
        return f"the start at {start_s:g} s lies behind its {length}"
    return f"the view {item.clip.view} has no piece {'without' if item.clip.crash else 'with'} a crash to match it with"


def matched_lengths(first: Sequence[float], second: Sequence[float]) -> tuple[list[float], list[float]]:
    """Choose lengths within two lists of capacities, in seconds, so that both lists of lengths have one distribution.

    The piece at quantile u of its class gets the smaller of the two classes' capacities at u, at most `MAX_WINDOW_S`.
    """
    return _lengths(first, second), _lengths(second, first)


def _lengths(own: Sequence[float], other: Sequence[float]) -> list[float]:
    order, others = np.argsort(own, kind="stable"), np.sort(other)
    lengths = [0.0] * len(own)
    for rank, index in enumerate(order):
        partner = others[int((rank + 0.5) / len(own) * len(others))]
        lengths[int(index)] = min(float(own[int(index)]), float(partner), MAX_WINDOW_S)
    return lengths


def _matched(
    positives: list[tuple[Footage, Kind]], negatives: list[tuple[Footage, Kind]], seed: int
) -> Iterator[Window]:
    if not positives or not negatives:
        return
    lengths = matched_lengths([_room_s(*one) for one in positives], [_room_s(*one) for one in negatives])
    for (item, kind), length_s in zip([*positives, *negatives], [*lengths[0], *lengths[1]], strict=True):
        yield _place(item, kind, length_s, seed)


def _room_s(item: Footage, kind: Kind) -> float:
    """Return the maximum length of a piece of this kind, in seconds."""
    if kind == "pre_crash" and item.clip.start_s is not None:
        return min(item.clip.start_s, item.content_s) - PRE_CRASH_GAP_S
    return item.content_s


def _place(item: Footage, kind: Kind, length_s: float, seed: int) -> Window:
    """Place the piece at a random offset, in whole frames; a crash piece contains the start."""
    rate_hz = item.detail.rate_hz
    length_s = math.floor(length_s * rate_hz + SLACK) / rate_hz
    low_s, high_s = 0.0, _room_s(item, kind) - length_s
    if kind == "crash" and item.clip.start_s is not None:
        start_s = item.clip.start_s
        tail_s = min(TAIL_S, max(0.0, item.content_s - start_s))
        low_s = max(low_s, start_s + tail_s - length_s)
        high_s = min(high_s, start_s - min(LEAD_S, start_s))
    high = max(0, math.floor(high_s * rate_hz + SLACK))
    low = min(high, math.ceil(low_s * rate_hz - SLACK))
    begin_s = int(generator_for(seed, item.clip.path.name, kind).integers(low, high + 1)) / rate_hz
    return Window(footage=item, kind=kind, begin_s=begin_s, end_s=begin_s + length_s)
