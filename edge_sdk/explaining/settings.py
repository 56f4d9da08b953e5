"""Settings for the reasoner's process, and the parts of a bundle that it needs."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import Language
from edge_sdk.errors import BundleError, ConfigError, UnknownNameError
from edge_sdk.registry import DEFAULT_RUNTIME
from edge_sdk.types import Value


class ReasonerSettings(Value, frozen=True, kw_only=True):
    """How the reasoner's process may use the machine.

    `budget_mb` is the most memory of its own that the process may have, in 10^6 bytes, libraries included. A bundle
    that needs more is refused, and an allocation that would exceed it fails. None means 90 % of the memory that is free
    on opening, within the machine and within its container. `priority` is added to the process's niceness. The process
    is killed if it says nothing for `silence_s`, if its bundle is not open after `open_s`, or if a single run of a
    graph takes longer than `stall_s`. `profile` names the bundle's vision profile; None means the one with the most
    frames. `events_kept` is the number of events of live sources whose frames stay in memory for later questions.
    """

    runtime: str = DEFAULT_RUNTIME
    threads: int = 1
    device: str = "cpu"
    engines: Path | None = None
    profile: str | None = None
    events_kept: int = 2
    budget_mb: float | None = None
    priority: int = 10
    silence_s: float = 60.0
    # Even a slow board stays below this: 128 tokens of a 7B model are 2 TFLOP, 200 s at 10 GFLOP/s, and reading its
    # 15 GB of half-precision weights from a card at 50 MB/s takes 300 s.
    stall_s: float = 900.0
    # The same card needs 300 s for the weights, and an engine that is compiled for its GPU on loading some minutes.
    open_s: float = 1800.0

    def __post_init__(self) -> None:
        if self.budget_mb is not None and not self.budget_mb > 0:
            raise ConfigError(f"the memory budget must be above 0 MB, found {self.budget_mb:g}")
        if not self.events_kept >= 1:
            raise ConfigError(
                f"the number of events whose frames are kept must be at least 1, found {self.events_kept}"
            )
        if not 0 <= self.priority <= 19:
            raise ConfigError(f"the priority must be 0..19, where 19 is the lowest priority, found {self.priority}")
        # The process sends a beat every second.
        for name, seconds in (("silence_s", self.silence_s), ("stall_s", self.stall_s), ("open_s", self.open_s)):
            if not seconds >= 5:
                raise ConfigError(f"{name} must be at least 5, found {seconds:g}")


def language_of(bundle: Bundle) -> Language:
    """Return the bundle's language part. Raises `BundleError`, which says how to get one, if there is none."""
    if bundle.manifest.language is None:
        raise BundleError(
            f"bundle {bundle.manifest.name!r} has no language part, so it answers no questions; name a bundle that "
            "has one with --bundle, or make one with `edge-sdk export`"
        )
    return bundle.manifest.language


def profile_of(language: Language, settings: ReasonerSettings) -> str:
    """Return the profile that `settings` name, or else the one with the most frames. Raises `UnknownNameError`."""
    profiles = language.profiles
    name = settings.profile or max(profiles, key=lambda each: profiles[each].frames)
    if name not in profiles:
        raise UnknownNameError("profile", name, list(profiles))
    return name
