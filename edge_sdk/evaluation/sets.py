"""Which archive a labelled clip comes from, and one clip for each recording.

Numbers are given per archive, because archives differ in view, resolution and how their starts were labelled.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError

RENDERED = "rendered"


def read_sets(table: Path) -> dict[str, str]:
    """Set of every clip in a label table, by file name; from its columns `label_source` and `view`.

    Raises `ConfigError` where a column is missing.
    """
    try:
        with table.open(newline="", encoding="utf-8") as handle:
            return {row["clip"]: _set_of(row["label_source"], row["view"]) for row in csv.DictReader(handle)}
    except OSError as error:
        raise ConfigError(f"cannot read label table {table}: {error.strerror}") from error
    except KeyError as error:
        raise ConfigError(f"label table {table} has no column {error}; expected clip, view and label_source") from error


def set_of_clip(clip: LabelledClip, sets: Mapping[str, str]) -> str:
    """The clip's set: from the table, else `rendered` for a scene, else what is left for its view."""
    if clip.path.name in sets:
        return sets[clip.path.name]
    return RENDERED if clip.record is not None else f"{clip.view} misc"


def one_per_group(clips: Iterable[LabelledClip]) -> list[LabelledClip]:
    """The first clip of each group among crashes, and among the rest: copies of one recording count once."""
    first: dict[tuple[str, bool], LabelledClip] = {}
    for clip in clips:
        first.setdefault((clip.group, clip.crash), clip)
    return list(first.values())


def _set_of(label_source: str, view: str) -> str:
    for mark, name in (
        ("CADP", "CADP"),
        ("CCD", "CCD"),
        ("Kaggle", "Kaggle + Roboflow"),
        ("Roboflow", "Kaggle + Roboflow"),
    ):
        if mark in label_source:
            return name
    return "dashcam misc" if view == "dashcam" else "roadside misc"
