"""Crash clips spliced at random offsets into normal footage: what a camera that is always on would see.

Otherwise a mere clock scores well, because archives cut their clips so that the crash comes at nearly the same second.
Normal footage of the same view is put before and after each clip, and the clip loses a beginning of random length.
Controls have the same splices but no crash, so they reveal alarms that the splices cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.evaluation.detail import Bytes
from edge_sdk.evaluation.samples import Footage, generator_for

# The picture jumps at a splice, so frames do not count and alarms are ignored for this long after it.
SHADOW_S = 1.5
MAX_DROP_S = 2.0
PREFIX_S = (4.0, 12.0)
SUFFIX_S = 3.0
MIN_NORMAL_S = PREFIX_S[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """Frames `[frames, bytes]` of normal footage, then the event's footage from its `drop_s` on, then normal footage.

    The event's footage lies from `begin_s` to `end_s` of the stream.
    """

    event: Footage
    frames: Bytes
    drop_s: float
    begin_s: float
    end_s: float
    repeat: int


def can_stream(item: Footage) -> bool:
    """Whether `item` can be spliced: a normal clip is long enough, or a crash starts after the splice's shadow."""
    if not item.clip.crash:
        return item.content_s >= MIN_NORMAL_S
    return item.clip.start_s is not None and item.clip.start_s >= SHADOW_S and item.shows_start


def build_streams(events: Sequence[Footage], normals: Sequence[Footage], seed: int, repeats: int) -> list[Stream]:
    """Build one stream per event and repeat, surrounded by normal clips of the same view and another group.

    Events are crash clips, or normal clips as controls. Those without such a normal clip, or for which `can_stream` is
    false, are left out.
    """
    streams = []
    for item in events:
        near = _near(item, normals)
        if near and can_stream(item):
            streams += [_splice(item, near, seed, repeat) for repeat in range(repeats)]
    return streams


def no_stream(item: Footage, normals: Sequence[Footage]) -> str:
    """Say why `build_streams` leaves `item` out, given `normals`."""
    length = f"{item.content_s:.1f} s of content"
    if can_stream(item):
        return f"no other normal clip of the view {item.clip.view} and {MIN_NORMAL_S:g} s or more to put around it"
    if not item.clip.crash:
        return f"{length}, {MIN_NORMAL_S:g} s needed"
    if item.clip.start_s is None:
        return "its start is not labelled"
    if item.clip.start_s < SHADOW_S:
        return f"the start at {item.clip.start_s:g} s comes before {SHADOW_S:g} s"
    return f"the start at {item.clip.start_s:g} s lies behind its {length}"


def _near(item: Footage, normals: Sequence[Footage]) -> list[Footage]:
    """Return the clips that may surround `item`: long enough normals of the same view and another group."""
    return [
        normal
        for normal in normals
        if normal.clip.view == item.clip.view
        and normal.clip.group != item.clip.group
        and normal.content_s >= MIN_NORMAL_S
    ]


def _splice(item: Footage, near: Sequence[Footage], seed: int, repeat: int) -> Stream:
    rng = generator_for(seed, item.clip.path.name, str(repeat))
    before, after = (near[int(rng.integers(len(near)))] for _ in range(2))
    prefix = _piece(before, float(rng.uniform(*PREFIX_S)), rng)
    suffix = _piece(after, SUFFIX_S, rng)
    latest_s = MAX_DROP_S if item.clip.start_s is None else min(MAX_DROP_S, item.clip.start_s - SHADOW_S)
    rate_hz = item.detail.rate_hz
    drop_s = float(np.floor(rng.uniform(0.0, latest_s) * rate_hz)) / rate_hz
    middle = item.cut(drop_s, item.content_s)
    begin_s = len(prefix) / rate_hz
    return Stream(
        event=item,
        frames=np.concatenate([prefix, middle, suffix]),
        drop_s=drop_s,
        begin_s=begin_s,
        end_s=begin_s + len(middle) / rate_hz,
        repeat=repeat,
    )


def _piece(item: Footage, length_s: float, rng: np.random.Generator) -> Bytes:
    """Cut at most `length_s` from a normal clip, at a random time."""
    begin_s = float(rng.uniform(0.0, max(0.0, item.content_s - length_s)))
    return item.cut(begin_s, min(begin_s + length_s, item.content_s))
