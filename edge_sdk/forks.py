"""Keep forked processes from closing what this one opened: closing waits for threads, which a fork does not copy."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable

from edge_sdk.errors import ConfigError

# What runtimes have opened in this process.
_held: weakref.WeakSet[object] = weakref.WeakSet()


def only_here(work: Callable[[], object]) -> Callable[[], None]:
    """Wrap `work` so that it does nothing in a process that was forked from this one.

    Finalisers also run when a forked process ends. There they would wait for threads that only this process has, or
    close what it still uses.
    """
    pid = os.getpid()

    def guarded() -> None:
        if os.getpid() == pid:
            work()

    return guarded


def check_here(pid: int) -> None:
    """Raise `ConfigError` in a process other than `pid`, in which the reasoner that is asked was made."""
    if os.getpid() != pid:
        raise ConfigError(f"this reasoner was made in process {pid}, found process {os.getpid()}; make one here")


def hold_in_forks(thing: object) -> None:
    """Keep `thing` from being destroyed in forked processes, where its destructor would wait for missing threads."""
    _held.add(thing)


def _hold() -> None:
    for thing in list(_held):
        # An extra reference count is never released; a reference from a list would be, when the interpreter ends.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


os.register_at_fork(after_in_child=_hold)
