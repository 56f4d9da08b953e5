"""Whether clips are scenes that a bundle's student was trained on, by the recipes that the bundle keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.student_origin import student_origin
from edge_sdk.clips import LabelledClip
from edge_sdk.registry import open_room


def trained_on(bundle: Bundle, clips: Sequence[LabelledClip]) -> list[LabelledClip]:
    """Those of `clips` whose seed and family are among the scenes for training of the recipes that made it."""
    chosen = list(_chosen(bundle))
    return [
        clip
        for clip in clips
        if clip.record is not None
        and any(clip.record.generator == generator and clip.record.seed in seeds for generator, seeds in chosen)
    ]


def _chosen(bundle: Bundle) -> Iterator[tuple[str, frozenset[int]]]:
    families, choice = open_room("calibration.scenes.families"), open_room("calibration.scenes.choice")
    for recipe in _recipes(bundle):
        try:
            scenes = msgspec.toml.decode(recipe).get("scenes", {})
        except msgspec.DecodeError:
            continue
        for name in ("training", "further"):
            match scenes.get(name):
                case {"first": int(first), "count": int(count), **rest}:
                    family = families.find_family(rest.get("family", families.DEFAULT_FAMILY))
                    yield family.generator, frozenset(choice.choose_seeds(first, count, rest.get("of", "any")))


def _recipes(bundle: Bundle) -> Iterator[str]:
    """That of the student, and those of the students that it went on from."""
    # Any: see Manifest.provenance.
    known: Mapping[str, Any] = student_origin(bundle)["provenance"]
    while known:
        if isinstance(recipe := known.get("recipe"), str):
            yield recipe
        known = known.get("start", {})
