"""Several processes that share one training, as a launcher starts them: who does what, and how they part."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any

from edge_sdk.errors import ConfigError
from edge_sdk.registry import open_room


def count() -> int:
    """How many processes the launcher started, 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_alone(what: str) -> None:
    """Raise `ConfigError` where several processes would all do the work of one, training `what`."""
    if count() > 1:
        raise ConfigError(f"training {what} is the work of one process, found {count()}; run it without a launcher")


# Any: a context of accelerate.
def main_first() -> Any:
    """Inside, of several processes the main one goes first; the others find what it has made."""
    return nullcontext() if count() == 1 else open_room("export.mini.training").processes().main_process_first()


def is_main() -> bool:
    """Whether this process does what one of several has to do."""
    return count() == 1 or bool(open_room("export.mini.training").processes().is_main_process)


def leave() -> None:
    """What the processes share ends here, as in `export.mini.training`; nothing for one alone."""
    if count() > 1:
        open_room("export.mini.training").leave()
