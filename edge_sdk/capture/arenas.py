"""Fewer arenas of `malloc`, so that what one connection to a camera has freed is used again by the next one.

glibc gives threads arenas of their own, up to eight a core, and a live source has a dozen threads, all new after each
reconnect. What they free in one arena is of no use in another, and a process grows although it holds no more: by 4 to
8 KB a reconnect, by less than 1 KB with two arenas (`benchmarks/live/reconnects.py`).
"""

from __future__ import annotations

import ctypes
import os

ARENAS = 2
_M_ARENA_MAX = -8  # <malloc.h>


def limit_arenas(count: int = ARENAS) -> bool:
    """Have `malloc` make no more arenas than `count` (mallopt(3), M_ARENA_MAX); returns whether it will.

    It holds for the whole process, so a program calls it, before it opens sources; a library would not. False where
    `MALLOC_ARENA_MAX` has decided already, and where the C library is not glibc.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
        ctypes.CDLL(None).gnu_get_libc_version  # noqa: B018 - others take the call and do nothing
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_M_ARENA_MAX, count))
