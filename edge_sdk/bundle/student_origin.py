"""Where the student of a bundle comes from: a bundle that takes one over keeps what was known of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edge_sdk.bundle.folder import Bundle
from edge_sdk.clips import LabelledClip, content_of

# Of clips that a student was tuned on, what stands for each, cut to so many letters: of a million two may be alike.
CLIPS_SEEN = "clips_seen"
_LETTERS = 12


# Any: see Manifest.provenance.
def student_origin(bundle: Bundle) -> dict[str, Any]:
    """`bundle`, `sha256` and `provenance` of the one that its student was made in, however often it was taken over."""
    manifest = bundle.manifest
    found: dict[str, Any] = {"bundle": manifest.name, "sha256": bundle.sha256, "provenance": manifest.provenance}
    while "provenance" in found["provenance"].get("student", {}):
        found = found["provenance"]["student"]
    return found


# Any: see Manifest.provenance.
def lineage(bundle: Bundle) -> Iterator[Mapping[str, Any]]:
    """How its student was made, and how each was that it went on from, the last one first."""
    known: Mapping[str, Any] = student_origin(bundle)["provenance"]
    while known:
        yield known
        known = known.get("start", {})


def mark_of(clip: LabelledClip) -> str:
    """What stands for `clip` in `CLIPS_SEEN`, also where it is a copy in another form."""
    return (clip.copy_of or content_of(clip))[:_LETTERS]


def clips_seen(bundle: Bundle, further: Iterable[LabelledClip] = ()) -> list[str]:
    """The marks of all clips that its student was tuned on, as far as that was noted, and of `further` ones."""
    noted = {mark for known in lineage(bundle) for mark in known.get(CLIPS_SEEN, ())}
    return sorted(noted | {mark_of(clip) for clip in further})
