"""Where a bundle's student comes from: a bundle that takes over a student keeps the student's provenance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edge_sdk.bundle.folder import Bundle
from edge_sdk.clips import LabelledClip, content_of

# The provenance key with a mark for each clip that a student was tuned on. 12 hexadecimal digits suffice: even two of a
# million clips are unlikely to share a mark.
CLIPS_SEEN = "clips_seen"
_LETTERS = 12


# Any: see Manifest.provenance.
def student_origin(bundle: Bundle) -> dict[str, Any]:
    """Return `bundle`, `sha256` and `provenance` of the bundle that the student was made in, whatever lies between."""
    manifest = bundle.manifest
    found: dict[str, Any] = {"bundle": manifest.name, "sha256": bundle.sha256, "provenance": manifest.provenance}
    while "provenance" in found["provenance"].get("student", {}):
        found = found["provenance"]["student"]
    return found


# Any: see Manifest.provenance.
def lineage(bundle: Bundle) -> Iterator[Mapping[str, Any]]:
    """Yield how the bundle's student was made, then how each student it was trained from was, latest first."""
    known: Mapping[str, Any] = student_origin(bundle)["provenance"]
    while known:
        yield known
        known = known.get("start", {})


def mark_of(clip: LabelledClip) -> str:
    """Return the mark of `clip` in `CLIPS_SEEN`; a re-encoded copy has the mark of its original."""
    return (clip.copy_of or content_of(clip))[:_LETTERS]


def clips_seen(bundle: Bundle, further: Iterable[LabelledClip] = ()) -> list[str]:
    """Return the marks of all clips that its student was tuned on, as far as recorded, and of `further` clips."""
    noted = {mark for known in lineage(bundle) for mark in known.get(CLIPS_SEEN, ())}
    return sorted(noted | {mark_of(clip) for clip in further})
