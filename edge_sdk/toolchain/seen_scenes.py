"""Whether clips are scenes that a bundle's student was trained on, by the recipe that the bundle keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.clips import LabelledClip
from edge_sdk.registry import open_room


def trained_on(bundle: Bundle, clips: Sequence[LabelledClip]) -> list[LabelledClip]:
    """Those of `clips` whose seed and family lie in the ranges of the recipe's scenes for training.

    A recipe that takes scenes of one kind alone may have skipped some of its range; these are among the found ones.
    """
    ranges = list(_ranges(bundle))
    return [
        clip
        for clip in clips
        if clip.record is not None
        and any(clip.record.generator == generator and clip.record.seed in seeds for generator, seeds in ranges)
    ]


def _ranges(bundle: Bundle) -> Iterator[tuple[str, range]]:
    # Any: see Manifest.provenance; a bundle that took over a student keeps what was known of it one level deeper.
    known: Mapping[str, Any] = bundle.manifest.provenance
    while "provenance" in known.get("student", {}):
        known = known["student"]["provenance"]
    recipe = known.get("recipe")
    if not isinstance(recipe, str):
        return
    try:
        scenes = msgspec.toml.decode(recipe).get("scenes", {})
    except msgspec.DecodeError:
        return
    families = open_room("calibration.scenes.families")
    for name in ("training", "further"):
        match scenes.get(name):
            case {"first": int(first), "count": int(count), **rest}:
                family = families.find_family(rest.get("family", families.DEFAULT_FAMILY))
                yield family.generator, range(first, first + count)
