"""The reasoner's process with something in it changed."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable


def started_with(changes: str) -> Callable[[socket.socket], subprocess.Popen[bytes]]:
    """Starts processes in which the Python code `changes` has run before they work; in the place of `child._start`."""
    code = f"from edge_sdk.explaining import worker\n{changes}\nworker.main()\n"

    def start(end: socket.socket) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", code, str(end.fileno())]
        nothing = subprocess.DEVNULL
        return subprocess.Popen(words, pass_fds=(end.fileno(),), stdin=nothing, stdout=nothing, stderr=subprocess.PIPE)

    return start
