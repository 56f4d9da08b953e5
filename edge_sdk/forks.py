"""What a process that was forked from this one must leave alone: threads do not go along, and ends wait for them."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable

# What a runtime opened, of this process.
_held: weakref.WeakSet[object] = weakref.WeakSet()


def only_here(work: Callable[[], object]) -> Callable[[], None]:
    """`work`, which does nothing in a process that was forked from this one.

    Finalisers run there too, as that process ends: they would wait for threads that only this one has, or take down
    what it still uses.
    """
    pid = os.getpid()

    def guarded() -> None:
        if os.getpid() == pid:
            work()

    return guarded


def hold_in_forks(thing: object) -> None:
    """Have `thing` never put away in a process that is forked from this one: its destructor would wait for threads."""
    _held.add(thing)


def _hold() -> None:
    for thing in list(_held):
        # A reference of its own, that of a list would go with the interpreter.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


os.register_at_fork(after_in_child=_hold)
