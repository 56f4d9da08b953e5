"""Keep training and held-out clips apart: thresholds must not be fitted on what a student was trained on."""

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
    """Check clips to train on, `learnt` with labels and `unlabelled` from the folder `where`, against `held_out` clips.

    Raises `ConfigError` for a recording that is both trained on and held out, for such a file under any name, and for
    an unlabelled file that is also among the clips with labels.
    """
    shared = {clip.group for clip in [*learnt, *unlabelled]} & {clip.group for clip in held_out}
    if shared:
        raise ConfigError(
            f"{len(shared)} groups are in both training and held-out clips, such as {min(shared)!r}; put each "
            "recording and each seed on one side only"
        )
    # The same file may lie on both sides under different names, and with different recordings.
    taught, judged = _by_content(learnt), _by_content(held_out)
    if both := sorted(taught.keys() & judged.keys()):
        raise ConfigError(
            f"{len(both)} files are in training and held-out clips: {taught[both[0]]} is {judged[both[0]]}; remove one"
        )
    nameless, known = _by_content(unlabelled), taught | judged
    if both := sorted(nameless.keys() & known.keys()):
        raise ConfigError(
            f"{len(both)} clips without labels are also among the labelled clips, {nameless[both[0]]} is "
            f"{known[both[0]]}; leave them out of {where}"
        )


def _by_content(clips: Iterable[LabelledClip]) -> dict[str, str]:
    return {sha256_of(clip.path): clip.path.name for clip in clips}
