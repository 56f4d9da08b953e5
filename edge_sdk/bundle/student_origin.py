"""Where the student of a bundle comes from: a bundle that takes one over keeps what was known of it."""

from __future__ import annotations

from typing import Any

from edge_sdk.bundle.folder import Bundle


# Any: see Manifest.provenance.
def student_origin(bundle: Bundle) -> dict[str, Any]:
    """`bundle`, `sha256` and `provenance` of the one that its student was made in, however often it was taken over."""
    manifest = bundle.manifest
    found: dict[str, Any] = {"bundle": manifest.name, "sha256": bundle.sha256, "provenance": manifest.provenance}
    while "provenance" in found["provenance"].get("student", {}):
        found = found["provenance"]["student"]
    return found
