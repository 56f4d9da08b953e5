"""Several processes that a launcher starts for one training run: which one does what, and how they end."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any

from edge_sdk.errors import ConfigError
from edge_sdk.registry import open_room


def count() -> int:
    """Return the number of processes that the launcher started, 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_alone(what: str) -> None:
    """Raise `ConfigError` if several processes were started to train `what`, which is the work of one."""
    if count() > 1:
        raise ConfigError(f"expected one process for the training {what}, found {count()}; run it without a launcher")


# Any: a context of accelerate.
def main_first() -> Any:
    """Let the main process run the block first; the others then find what it has made."""
    return nullcontext() if count() == 1 else open_room("export.mini.training").processes().main_process_first()


def is_main() -> bool:
    """Whether this process does the work that only one of several may do."""
    return count() == 1 or bool(open_room("export.mini.training").processes().is_main_process)


def leave() -> None:
    """End what the processes share, as in `export.mini.training`; does nothing for a single process."""
    if count() > 1:
        open_room("export.mini.training").leave()
