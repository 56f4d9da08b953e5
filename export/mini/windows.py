"""Which pictures of a clip an example shows, and their times in its prompt: random windows, sampled by a fixed rule.

Sampling follows `analyze`: the profile's rate, spread out over longer windows. A part of a clip is treated as a file of
its own, so its times count from its first picture.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_sdk.evaluation.tasks.scene_answers import Window
from edge_sdk.explaining.sampling import slots_of, spread, stamps_s
from edge_sdk.export.mini.material import Material
from edge_sdk.export.mini.recipe import Windows
from edge_sdk.reasoning.grid import Profile

_TRIES = 20


class Shot(NamedTuple):
    """What an example shows: `pictures` are numbers within the clip, `stamps_s` their times as the prompt writes them.

    `window` is the part of the clip that is shown, in seconds of the clip.
    """

    pictures: tuple[int, ...]
    stamps_s: tuple[float, ...]
    window: Window


def whole(clip: Material, profile: Profile) -> Shot:
    """The whole clip, as `analyze` shows it."""
    return _shot(clip, profile, 0, clip.pictures.end_s)


def draw_shot(clip: Material, profile: Profile, windows: Windows, random: np.random.Generator) -> Shot:
    """Draw the whole clip, or a part of it that allows true answers; see `Windows`."""
    length_s, end_s = (windows.frames or profile.frames) / profile.rate_hz, clip.pictures.end_s
    if random.random() < windows.whole or end_s <= length_s:
        return whole(clip, profile)
    for _ in range(_TRIES):
        lasts_s = length_s if windows.frames else random.uniform(length_s, end_s)
        first = int(np.searchsorted(clip.pictures.times_s, random.uniform(0, end_s - lasts_s)))
        stop_s = float(clip.pictures.times_s[first]) + lasts_s
        if stop_s <= end_s and _is_clear(clip, float(clip.pictures.times_s[first]), stop_s, windows.least_s):
            return _shot(clip, profile, first, stop_s)
    # A clip's first seconds are before its crash or hold the beginning of it.
    return _shot(clip, profile, 0, length_s) if windows.frames else whole(clip, profile)


def _is_clear(clip: Material, start_s: float, stop_s: float, least_s: float) -> bool:
    """Whether the crash, if there is one, begins clearly inside the window or clearly after it."""
    crash_s = clip.record.crash_start_s
    if crash_s is None or stop_s <= crash_s - least_s:
        return True
    return start_s <= crash_s <= stop_s - least_s


def _shot(clip: Material, profile: Profile, first: int, stop_s: float) -> Shot:
    times_s = clip.pictures.times_s
    begin_s, last = float(times_s[first]), int(np.searchsorted(times_s, stop_s))
    inside = (times_s[first:last] - begin_s).tolist()
    slots = slots_of(inside, stop_s - begin_s, profile.rate_hz)
    stamps = stamps_s(0.0, len(slots), profile.rate_hz)
    chosen = spread(len(slots), profile.frames)
    return Shot(
        tuple(first + slots[n] for n in chosen),
        tuple(float(stamps[n]) for n in chosen),
        Window(start_s=begin_s, end_s=stop_s),
    )
