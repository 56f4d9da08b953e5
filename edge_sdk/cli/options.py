"""Refuse options that have no effect, instead of ignoring them silently."""

from __future__ import annotations

from collections.abc import Mapping

from edge_sdk.errors import ConfigError


def refuse_stray(why: str, options: Mapping[str, object]) -> None:
    """Raise a `ConfigError` that begins with `why` and names the `options` that were given, if any were."""
    stray = [name for name, value in options.items() if not (value is None or value is False or value in ([], ()))]
    if stray:
        raise ConfigError(
            f"{why}; {', '.join(stray)} would have no effect: leave {'it' if len(stray) == 1 else 'them'} out"
        )
