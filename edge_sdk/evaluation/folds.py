"""Folds for cross-validation by recording: a model is never judged on what it was trained on.

Copies and pieces of one recording share a `group` and stay together. Every fold gets its share of each view, and of
crashes and others.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.files import write_json
from edge_sdk.types import Value

FILE_NAME = "folds.json"


class Folds(Value, frozen=True, kw_only=True):
    """A cross-validation on disk: `folds.json` beside a bundle `fold-K` for each of `count` folds.

    `clips` maps each clip's file stem to its fold K; the bundle `fold-K` was trained without the clip.
    """

    count: int
    clips: dict[str, int]


def write_folds(folder: Path, clips: Iterable[LabelledClip], folds: Mapping[str, int]) -> None:
    """Write `folds.json` for `clips`; `folds` maps each group to its fold."""
    found = Folds(count=max(folds.values()) + 1, clips={clip.path.stem: folds[clip.group] for clip in clips})
    write_json(folder / FILE_NAME, found, indent=1)


def read_folds(folder: Path) -> Folds:
    """Read the folds in a folder. Raises `ConfigError` for a missing or broken file."""
    path = folder / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Folds)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(
            f"{path} is not readable ({error}); make the folds with: python -m edge_sdk.export.distil.folds"
        ) from error


def fold_bundle(folder: Path, fold: int) -> Path:
    """Return the folder of the bundle that was trained without fold `fold`."""
    return folder / f"fold-{fold}"


def assign_folds(clips: Sequence[LabelledClip], folds: int) -> dict[str, int]:
    """Assign every group of `clips` a fold, 0 .. `folds` - 1.

    The groups of a stratum (view, with or without a crash) are dealt out in an order that depends only on their names.
    Each stratum continues where the last one ended, so fold sizes differ by at most one group. Raises `ConfigError` for
    fewer than two folds, or fewer groups than folds.
    """
    strata = _strata(clips)
    if not 2 <= folds <= len(strata):
        raise ConfigError(f"expected 2 folds or more and at most as many as groups, found {folds} of {len(strata)}")
    order = sorted(strata, key=lambda group: (strata[group], zlib.crc32(group.encode()), group))
    return {group: place % folds for place, group in enumerate(order)}


def split(
    clips: Iterable[LabelledClip], folds: Mapping[str, int], held_out: int
) -> tuple[list[LabelledClip], list[LabelledClip]]:
    """Split `clips` into those to train on and those of fold `held_out`."""
    training: list[LabelledClip] = []
    judged: list[LabelledClip] = []
    for clip in clips:
        (judged if folds[clip.group] == held_out else training).append(clip)
    return training, judged


def _strata(clips: Sequence[LabelledClip]) -> dict[str, tuple[str, bool]]:
    strata: dict[str, tuple[str, bool]] = {}
    for clip in clips:
        _, crash = strata.get(clip.group, (clip.view, False))
        strata[clip.group] = (clip.view, crash or clip.crash)
    return strata
