"""Limit the arenas of `malloc`, so that memory freed by one connection to a camera is used again by the next one.

glibc gives threads their own arenas, up to eight per core. A live source has a dozen threads, all new after each
reconnect. Memory freed in one arena is not available in another, so a process grows although it holds no more: by 4 to
8 KB per reconnect, and by less than 1 KB with two arenas (`benchmarks/live/reconnects.py`).
"""

from __future__ import annotations

import ctypes
import os

ARENAS = 2
_M_ARENA_MAX = -8  # <malloc.h>


def limit_arenas(count: int = ARENAS) -> bool:
    """Limit `malloc` to `count` arenas (mallopt(3), M_ARENA_MAX); returns whether the limit holds.

    The limit is for the whole process, so a program should call this before it opens sources, and a library should not.
    Returns False if `MALLOC_ARENA_MAX` is set in the environment, and if the C library is not glibc.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
        ctypes.CDLL(None).gnu_get_libc_version  # noqa: B018 - others take the call and do nothing
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_M_ARENA_MAX, count))
