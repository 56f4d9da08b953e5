"""The archive that a labelled clip comes from, and the choice of one clip per recording.

Numbers are reported per archive, because archives differ in view, resolution and how their starts were labelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edge_sdk.clips import LabelledClip, read_table
from edge_sdk.errors import ConfigError

RENDERED = "rendered"
_FIELDS = ("clip", "view")
# Archives, by a word in `label_source`, whose labelled ends are not the crash's: the end of the clip (CCD) or of boxes
# that outlast the crash.
ONSET_ONLY = ("CCD", "Roboflow")


def read_sets(table: Path) -> dict[str, str]:
    """Read the set of every clip in a label table, by file name: from its columns `view` and, if any, `label_source`.

    Raises `ConfigError` if a field is missing.
    """
    sets = {}
    for line, row in read_table(table):
        clip, view = (row.get(name) for name in _FIELDS)
        if clip is None or view is None:
            missing = next(name for name in _FIELDS if row.get(name) is None)
            raise ConfigError(f"label table {table}, line {line}: field {missing} is missing")
        sets[Path(clip).name] = _set_of(row.get("label_source") or "", view)
    return sets


def without_false_ends(table: Path, clips: Sequence[LabelledClip]) -> list[LabelledClip]:
    """Return `clips` of a label table, without the ends of archives in `ONSET_ONLY`, which are not the crash's."""
    said = {Path(row.get("clip") or "").name: row.get("label_source") or "" for _, row in read_table(table)}
    onset = {name for name, source in said.items() if any(mark in source for mark in ONSET_ONLY)}
    return [replace(clip, end_s=None) if clip.path.name in onset else clip for clip in clips]


def set_of_clip(clip: LabelledClip, sets: Mapping[str, str]) -> str:
    """Return the clip's set: from the table, else `rendered` for a scene, else the miscellaneous set of its view."""
    if clip.path.name in sets:
        return sets[clip.path.name]
    return RENDERED if clip.record is not None else f"{clip.view} misc"


def one_per_group(clips: Iterable[LabelledClip]) -> list[LabelledClip]:
    """Return the first crash clip and the first other clip of each group, so that copies of a recording count once."""
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
