"""The files behind stdout and stderr: closed ones, gone readers, and characters that they cannot encode."""

from __future__ import annotations

import codecs
import errno
import io
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TextIO

# The name of an error handler of `codecs`: a character that an output cannot encode becomes an escape that JSON knows.
ESCAPE = "edge_sdk.escape"


def prepare_outputs() -> None:
    """Let stdout and stderr take any text: closed ones lead to the null device, unknown characters are escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - it stays open
            os.set_inheritable(stream.fileno(), True)  # usually the number of the closed one, which children inherit
            setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPE)


def silence(stream: TextIO) -> None:
    """Point the file of `stream` at the null device: nothing written later waits for a reader, or fails."""
    with suppress(OSError, ValueError):  # no file, or closed
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)


def is_closed_pipe(error: BaseException | None) -> bool:
    """Whether `error` says that the reader of a pipe is gone; a broken channel to a process of ours has no number."""
    return isinstance(error, BrokenPipeError) and error.errno == errno.EPIPE


def leave_silently() -> NoReturn:
    """Exit as a program does that SIGPIPE has killed."""
    for stream in (sys.stdout, sys.stderr):
        silence(stream)  # otherwise the interpreter tries again to write what is left, and complains
    sys.exit(141)  # 128 and the number of SIGPIPE, as shells have it


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(ESCAPE, _escape)
