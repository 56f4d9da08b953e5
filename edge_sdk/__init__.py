"""CrashChat Edge SDK: recognise and localise traffic crashes in video, on the device.

    with edge_sdk.open("clip.mp4") as unit:
        for event in unit.events():
            print(event.state, event.timeline.crash_start)

Importing this package loads nothing heavy; runtimes, GStreamer and the optional parts load when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge_sdk import analysis as analysis
    from edge_sdk import errors as errors
    from edge_sdk import events as events
    from edge_sdk.bundle import Bundle
    from edge_sdk.bundle.pins import KeyFiles
    from edge_sdk.capture import LiveSettings
    from edge_sdk.explaining import ReasonerSettings
    from edge_sdk.stream import AnySource
    from edge_sdk.unit import Unit

__all__ = ["__version__", "open"]

__version__ = "0.1.0"

if not TYPE_CHECKING:  # with a module `__getattr__`, type checkers would accept any attribute name

    def __getattr__(name: str) -> object:
        """Import the modules that callers of `open` need when they are first accessed."""
        from importlib import import_module

        if name in ("analysis", "errors", "events"):
            return import_module(f"edge_sdk.{name}")
        raise AttributeError(f"module 'edge_sdk' has no attribute {name!r}")


def open(  # noqa: A001 - reads as edge_sdk.open; the builtin is not used here
    source: AnySource | Sequence[AnySource],
    bundle: Bundle | str | Path | None = None,
    *,
    runtime: str = "ort",
    threads: int = 1,
    device: str = "cpu",
    live: LiveSettings | None = None,
    rate_hz: float | None = None,
    reasoning: ReasonerSettings | None = None,
    operating_point: str | None = None,
    expect: str | None = None,
    trust: KeyFiles | None = None,
) -> Unit:
    """Watch `source` (a path, a URI, a `Feed`, or several of them) with a bundle's student; the demo bundle by default.

    `operating_point` chooses how much false alarms weigh: `quiet`, `balanced` or `sensitive`, if the bundle was fitted
    for them. `expect`, the SHA-256 of a bundle, or `trust`, PEM files of public keys, restrict which bundle is opened,
    as in `edge_sdk.bundle.open_bundle`. Returns a context manager with `.events()`, `.scores()`, `.frames()`,
    `.watch()` (events and the states of live sources), `.trigger()` (begins an event by hand) and `.explain(event)`
    (asks the bundle's video LLM). Raises `ConfigError`, `SourceError`, `BundleError`, `EngineError`,
    `MissingDependencyError` or `RuntimeFailure`, each saying what to do.
    """
    from edge_sdk.unit import Unit

    if expect is not None or trust is not None:
        from edge_sdk.bundle import Bundle, open_bundle
        from edge_sdk.errors import ConfigError

        if isinstance(bundle, Bundle):
            raise ConfigError(
                "`expect` and `trust` choose what is opened, and this bundle is open already; give its folder, or open "
                "it with them: edge_sdk.bundle.open_bundle(FOLDER, expect=...)"
            )
        bundle = open_bundle(bundle, expect=expect, trust=trust)
    return Unit(
        source,
        bundle,
        runtime=runtime,
        threads=threads,
        device=device,
        live=live,
        rate_hz=rate_hz,
        reasoning=reasoning,
        operating_point=operating_point,
    )
