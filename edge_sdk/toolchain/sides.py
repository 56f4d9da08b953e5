"""No clip on two sides: what a student learns from must not be what its thresholds are fitted on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.files import sha256_of


def check_sides(
    learnt: Sequence[LabelledClip],
    held_out: Sequence[LabelledClip],
    unlabelled: Sequence[LabelledClip] = (),
    where: Path | None = None,
) -> None:
    """Check what is `learnt` from with labels, and without them from the folder `where`, against what is `held_out`.

    Raises `ConfigError` for a recording that is learnt from and held out, for a file that is, under whatever name, and
    for one that is learnt from both with a label and without.
    """
    shared = {clip.group for clip in [*learnt, *unlabelled]} & {clip.group for clip in held_out}
    if shared:
        raise ConfigError(
            f"{len(shared)} groups are on both sides, {min(shared)!r} first; clips of one recording, and scenes of one "
            "seed, go to one side only"
        )
    # Whatever its recording is called, a file may lie on the other side under another name.
    taught, judged = _by_content(learnt), _by_content(held_out)
    if both := sorted(taught.keys() & judged.keys()):
        raise ConfigError(
            f"{len(both)} files are on both sides, {taught[both[0]]} is {judged[both[0]]}; leave them out on one"
        )
    nameless, known = _by_content(unlabelled), taught | judged
    if both := sorted(nameless.keys() & known.keys()):
        raise ConfigError(
            f"{len(both)} clips without labels are among those that have some, {nameless[both[0]]} is "
            f"{known[both[0]]}; leave them out of {where}"
        )


def _by_content(clips: Iterable[LabelledClip]) -> dict[str, str]:
    return {sha256_of(clip.path): clip.path.name for clip in clips}
