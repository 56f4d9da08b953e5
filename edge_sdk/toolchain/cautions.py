"""Warnings on stderr when a student is fitted or replaced: misleading fits, clips left out, and stale calibrations."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.clips import LabelledClip
from edge_sdk.console import warn
from edge_sdk.toolchain.seen_scenes import trained_on


def warn_of_seen(bundle: Bundle, clips: Sequence[LabelledClip]) -> None:
    """Warn of clips that the student was trained on."""
    if seen := trained_on(bundle, clips):
        some = f"{len(seen)} of {len(clips)} clips, {seen[0].path.name} first"
        warn([f"the student was trained on {some}: a calibration on these is too optimistic; use other clips"])


def warn_of_slow(names: Sequence[str]) -> None:
    """Warn of clips that were left out because their frame rate is too low."""
    if names:
        some = f"{len(names)} clip{'s' * (len(names) > 1)}, {names[0]} first"
        warn([f"{some}, left out of the calibration: fewer pictures a second than the student needs"])


def warn_of_answers(bundle: Bundle) -> None:
    """Warn if answers were calibrated together with a student whose scores have since changed."""
    language = bundle.manifest.language
    adapters = [] if language is None else language.adapters.values()
    fits = [fit for adapter in adapters for fit in (adapter.calibration or {}).values()]
    if any(fit.with_student is not msgspec.UNSET for fit in fits):
        said = "answers were calibrated with the student's earlier scores"
        warn([f"{said}; run edge-sdk calibrate --answers again"])
