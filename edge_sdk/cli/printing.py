"""Outputs of `edge-sdk run`, each written by a thread of its own, so that no reader can hold up the watching.

A reader that stalls costs the oldest of the lines that wait for it, which are counted. An output that fails, because
its reader is gone or its disk is full, is pointed at the null device. A run that saves clips goes on without it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import TextIO

from edge_sdk.console import without_secrets
from edge_sdk.errors import RuntimeFailure
from edge_sdk.outputs import ESCAPE, silence

# The most lines that wait for a reader.
ROOM = 1000
# The most that the end of a run waits for a reader; an interrupted one, and the second output, wait the shorter time.
_END_S, _SHORT_END_S = 3.0, 0.2
_RETRY_S = 0.02


class Printer:
    """Writes texts to `stream` in order, on a thread of its own; `put` never waits.

    `dropped` counts the texts that were displaced or given up, and `failure` is why the stream takes nothing more.
    Printers that share `turn` write one at a time. Call every method from one thread.
    """

    def __init__(self, stream: TextIO, turn: threading.Lock) -> None:
        stream.flush()
        self.dropped = 0
        self.failure: OSError | None = None
        self._stream, self._turn = stream, turn
        self._given_up = False
        self._fd = _number(stream)
        self._waiting: deque[str | None] = deque()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="edge-sdk printing", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether no text waits."""
        return not self._waiting

    def put(self, text: str | None) -> None:
        """Queue `text`; the oldest that waits makes room for it. None is the end."""
        with self._changed:
            if len(self._waiting) == ROOM:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(text)
            self._changed.notify()

    def finish(self, timeout_s: float) -> None:
        """Write what waits; after `timeout_s`, give it up and point the stream at the null device."""
        self.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.dropped += len(self._waiting)  # the end among them stands for the text that is being written
            self._given_up = True
            silence(self._stream)

    def _work(self) -> None:
        while (text := self._next()) is not None:
            if self.failure is None and not self._given_up:
                try:
                    with self._turn:
                        self._write(text)
                except OSError as error:
                    self.failure = error
                    silence(self._stream)

    def _next(self) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            return self._waiting.popleft()

    def _write(self, text: str) -> None:
        if self._fd is None:
            self._stream.write(text)
            self._stream.flush()
            return
        # Not through the stream: its lock, held by a write that hangs, would hang the interpreter's end too.
        data = text.encode(self._stream.encoding, ESCAPE)
        # Once given up, the number of the file may soon be another file's.
        while data and not self._given_up:
            data = data[_written(self._fd, data) :]


class Outputs:
    """The stdout and stderr of a run. Use it as a context manager; leaving waits a few seconds for their readers.

    A run for which stdout is `needed` ends when that fails. Call every method from one thread.
    """

    def __init__(self, *, needed: bool) -> None:
        turn = threading.Lock()
        self._needed = needed
        self._out = Printer(sys.stdout, turn)
        # Two threads that write long lines to one pipe would mix them.
        self._err = Printer(sys.stderr, turn if _same_file(sys.stdout, sys.stderr) else threading.Lock())
        self._stalled = self._failed = False
        self._told = 0

    @property
    def dropped(self) -> int:
        """Lines of stdout that a stalled reader has cost so far."""
        return self._out.dropped

    @property
    def failures(self) -> tuple[str, ...]:
        """The outputs that failed, each with its reason."""
        both = (("stdout", self._out.failure), ("stderr", self._err.failure))
        return tuple(f"{name}: {error.strerror}" for name, error in both if error is not None)

    def say(self, line: str) -> None:
        """Print one line to stdout."""
        self._out.put(f"{line}\n")

    def warn(self, texts: Iterable[str]) -> None:
        """Print texts to stderr as warnings."""
        for text in texts:
            self._err.put(f"edge-sdk: warning: {without_secrets(text)}\n")

    def draw(self, text: str) -> None:
        """Write `text` to stderr as it is."""
        self._err.put(text)

    def check(self) -> None:
        """Warn about what stdout has lost since the last call. Raises as `end` does if stdout is needed but failed."""
        if self._out.failure is not None:
            if self._needed:
                self.end()
            if not self._failed:
                self._failed = True
                self.warn([f"stdout: {self._out.failure.strerror}; events are saved, but not printed"])
        if self.dropped > self._told and not self._stalled:
            self._stalled = True
            self.warn([f"the reader of stdout stalls: {ROOM} lines wait, and the oldest of them are dropped"])
        if self._stalled and self._out.idle:
            self._tell_dropped()

    def end(self) -> None:
        """Raise `RuntimeFailure` if an output failed, `BrokenPipeError` if the reader of a needed stdout is gone."""
        if self._needed and isinstance(self._out.failure, BrokenPipeError):
            raise self._out.failure
        if self.failures:
            raise RuntimeFailure(
                f"{'; '.join(self.failures)}; the lines that followed are lost: keep the reader running, or free space"
            )

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        deadline_s = time.monotonic() + (_SHORT_END_S if interrupted else _END_S)
        self._out.finish(deadline_s - time.monotonic())
        if self.dropped > self._told:
            self._tell_dropped()
        self._err.finish(max(deadline_s - time.monotonic(), _SHORT_END_S))

    def _tell_dropped(self) -> None:
        self.warn([f"{self.dropped - self._told} lines of stdout were dropped, because its reader stalled"])
        self._told, self._stalled = self.dropped, False


def _written(fd: int, data: bytes) -> int:
    """Write from the start of `data`; return the number of bytes that the file took."""
    try:
        return os.write(fd, data)
    except BlockingIOError:  # another process has made the file non-blocking
        time.sleep(_RETRY_S)
        return 0


def _number(stream: TextIO) -> int | None:
    """The file descriptor of `stream`, None if it is not a file."""
    with suppress(OSError):
        return stream.fileno()
    return None


def _same_file(one: TextIO, other: TextIO) -> bool:
    first, second = _number(one), _number(other)
    return first is not None and second is not None and os.path.sameopenfile(first, second)
