"""How many arenas `malloc` makes, by glibc's own account (malloc_info(3))."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

THREADS = """
import ctypes, sys, threading
from edge_sdk.capture import limit_arenas
print(limit_arenas(2) if sys.argv[1] == "limited" else None)
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
met = threading.Barrier(13)

def allocate():
    libc.malloc(1000)
    met.wait()
    met.wait()

for _ in range(12):
    threading.Thread(target=allocate).start()
met.wait()
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
met.wait()
"""


def arenas(mode: str, path: Path, **environment: str) -> tuple[str, int]:
    """What `limit_arenas` said, and the arenas of a process whose twelve threads have each allocated something."""
    done = subprocess.run(
        [sys.executable, "-c", THREADS, mode, str(path)],
        env={**{key: value for key, value in os.environ.items() if key != "MALLOC_ARENA_MAX"}, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip(), path.read_text().count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
def test_arenas_are_few_when_the_program_asks_for_it(tmp_path: Path) -> None:
    assert arenas("limited", tmp_path / "limited.xml") == ("True", 2)
    assert arenas("free", tmp_path / "free.xml")[1] > 2
    assert arenas("limited", tmp_path / "told.xml", MALLOC_ARENA_MAX="3") == ("False", 3)
