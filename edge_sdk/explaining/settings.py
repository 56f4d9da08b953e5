"""How the reasoner's process may use the machine, and what a bundle must have for it."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import Language
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.registry import DEFAULT_RUNTIME
from edge_sdk.types import Value


class ReasonerSettings(Value, frozen=True, kw_only=True):
    """How the reasoner's process may use the machine.

    `budget_mb` is the most memory of its own that the process may have, 10^6 bytes, libraries included: a bundle that
    needs more is refused, and what would exceed it at work fails. None: the free memory of the moment it is opened.
    `priority` is added to the process's niceness. It is ended when it says nothing for `silence_s`. `profile` names the
    bundle's vision profile; None is the one of the most frames.
    """

    runtime: str = DEFAULT_RUNTIME
    threads: int = 1
    device: str = "cpu"
    engines: Path | None = None
    profile: str | None = None
    budget_mb: float | None = None
    priority: int = 10
    silence_s: float = 60.0

    def __post_init__(self) -> None:
        if self.budget_mb is not None and not self.budget_mb > 0:
            raise ConfigError(f"the memory budget must be above 0 MB, found {self.budget_mb:g}")
        if not 0 <= self.priority <= 19:
            raise ConfigError(f"the priority must be 0..19, higher being more patient, found {self.priority}")
        if not self.silence_s >= 5:
            raise ConfigError(f"silence_s must be at least 5, found {self.silence_s:g}")


def language_of(bundle: Bundle) -> Language:
    """The bundle's language part. Raises `BundleError` saying where one comes from."""
    if bundle.manifest.language is None:
        raise BundleError(
            f"bundle {bundle.manifest.name!r} has no language part, so it answers no questions; name a bundle that "
            "has one with --bundle, or make one with `edge-sdk export`"
        )
    return bundle.manifest.language
