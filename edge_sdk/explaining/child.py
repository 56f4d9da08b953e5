"""The reasoner's process, seen from its parent, which starts it, listens to it, and ends it in any case.

The process notices the end of its parent by the end of the connection, even if the parent was killed. In the parent, a
thread listens until the connection ends, and then finds out how the process ended.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

from edge_sdk import errors
from edge_sdk.errors import Cancelled, EdgeError, MissingDependencyError, RuntimeFailure
from edge_sdk.explaining.channel import Channel
from edge_sdk.explaining.messages import Beat, Failed, Message, Open, Opened
from edge_sdk.explaining.outbox import Outbox
from edge_sdk.explaining.settings import ReasonerSettings
from edge_sdk.forks import check_here

# How long the process may take to end when told to, before it is killed.
_LEAVE_S = 2.0
_POLL_S = 0.1
# A waiting program that did not look for this long was itself suspended. It then spends this long reading what has
# arrived before it judges the process.
_SETTLED_S = 1.0
_WORDS_KEPT = 8
_AGAIN = "; ask again: it is then restarted"
_CLOSED = "this program closed it"

# Do not import from the working folder, which may be a checkout without the compiled extension; Python 3.10 has no
# option for that. Folders on the parent's path that the new interpreter lacks are appended after its own.
_WORKER = (
    "import sys; sys.path[:] = filter(None, sys.path); "
    "sys.path.extend(each for each in sys.argv[2:] if each not in sys.path); "
    "from edge_sdk.explaining.worker import main; main()"
)


class Child:
    """A process that opens a bundle and answers questions. The listening thread calls `on_message`.

    The process is killed if it is silent, takes to open its bundle, or makes no progress for longer than `settings`
    allow. Raises `RuntimeFailure` if the system cannot start another process, and what `interpreter` raises.
    """

    def __init__(self, opening: Open, settings: ReasonerSettings, on_message: Callable[[Message], None]) -> None:
        self.news, self._parent = threading.Condition(), os.getpid()
        self.memory_mb: float | None = None
        self._settings, self._on_message = settings, on_message
        self._failure: EdgeError | None = None
        self._words: deque[str] = deque(maxlen=_WORDS_KEPT)
        # When the last message came, when the work last made progress, and the step it was at then. Opening counts as
        # one step.
        self._heard_s = self._moved_s = time.monotonic()
        self._step = 0
        self._reason, self._budget_mb = "", opening.budget_mb
        here, there = socket.socketpair()
        try:
            with there, _above_standard(there) as end:
                self._process = _start(end)
        except MissingDependencyError:
            here.close()
            raise
        except OSError as error:
            here.close()
            raise RuntimeFailure(
                f"the reasoner's process cannot be started: {error}; close what is not needed"
            ) from error
        self._channel = Channel(here, settings.silence_s)
        self._outbox = Outbox(self._channel)
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._listen, self._read_words)]
        for thread in self._threads:
            thread.start()
        try:
            self.send(opening)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process has ended or failed, so that no more messages will come."""
        return self._failure is not None

    def check_here(self) -> None:
        """Raise `ConfigError` in a process forked from the one that started this: no thread listens there."""
        check_here(self._parent)

    def failure(self) -> EdgeError | None:
        """Return why the process ended; None while it lives."""
        return self._failure

    def send(self, message: Message, data: memoryview | bytes = b"") -> None:
        """Queue a message and a copy of `data` without waiting; they may be lost.

        A process that has ended or does not read is noticed only by a wait for its answer.
        """
        self._outbox.put(message, data)

    def wait_open(self, until_s: float | None = None) -> float:
        """Wait until the bundle is open and return the memory it takes, in 10^6 bytes. Raises what opening raised.

        Also raises `RuntimeFailure` if it is not open at `until_s` on the monotonic clock; opening then continues.
        """
        self.wait_for(lambda: self.memory_mb is not None or (until_s is not None and time.monotonic() >= until_s))
        if self.memory_mb is None:
            raise RuntimeFailure("the reasoner is still opening its bundle; ask again later, or give it more time")
        return self.memory_mb

    def wait_for(self, ready: Callable[[], bool], until_s: float | None = None) -> None:
        """Wait for messages until `ready` is true. Raises the reason if the process ends, even if this call ends it.

        This call kills the process if it has been silent for too long, has made no progress, is not done at `until_s`
        on the monotonic clock, or does not finish opening.
        """
        looked_s = since_s = time.monotonic()
        with self.news:
            while not ready():
                if self._failure is not None:
                    raise self._failure.with_traceback(None)
                now_s = time.monotonic()
                if now_s - looked_s > _SETTLED_S:
                    since_s = now_s
                looked_s = now_s
                self._check(now_s, until_s, settled=now_s - since_s > _SETTLED_S)
                self.news.wait(_POLL_S)

    def kill(self, reason: str) -> None:
        """Kill the process because of `reason`."""
        self._reason = self._reason or reason
        self._process.kill()

    def close(self) -> None:
        """End the process, and wait until it is gone."""
        self._reason = self._reason or _CLOSED
        self._channel.shut()
        self._outbox.close()
        try:
            self._process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self._channel.close()

    def _check(self, now_s: float, until_s: float | None, *, settled: bool) -> None:
        settings = self._settings
        if until_s is not None and now_s > until_s:
            self.kill("it missed its deadline")
        elif not settled:
            return
        elif now_s - self._heard_s > settings.silence_s:
            self.kill(f"it sent nothing for {settings.silence_s:g} s")
        elif self.memory_mb is None and now_s - self._moved_s > settings.open_s:
            self.kill(f"its bundle was not open after {settings.open_s:g} s")
        elif self.memory_mb is not None and now_s - self._moved_s > settings.stall_s:
            self.kill(f"its work made no progress for {settings.stall_s:g} s")

    def _listen(self) -> None:
        try:
            while True:
                message = self._channel.receive().message
                self._heard_s = time.monotonic()
                with self.news:
                    self._take(message)
                    self.news.notify_all()
        except EOFError:
            pass
        finally:  # whatever happens, waiting threads must not wait for ever
            failure = self._failure or self._obituary()
            with self.news:
                self._failure = failure
                self.news.notify_all()

    def _take(self, message: Message) -> None:
        if isinstance(message, Beat):
            idle = not message.step and self.memory_mb is not None
            if idle or message.step != self._step:
                self._step, self._moved_s = message.step, self._heard_s
        elif isinstance(message, Opened):
            self.memory_mb, self._moved_s = message.memory_mb, self._heard_s
        elif isinstance(message, Failed) and message.job is None:
            self._failure = error_of(message)
        else:
            self._on_message(message)

    def _obituary(self) -> EdgeError:
        """Return why the process ended, in one sentence; kills it if it does not end within a moment."""
        try:
            code = self._process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            self.kill("it no longer responded")
            code = self._process.wait()
        self._threads[1].join(_LEAVE_S)
        how = self._reason or _how(code, self._budget_mb)
        # The message of a library before it aborts is often followed by a trace.
        telling = [line for line in self._words if "rror" in line or "bad_alloc" in line] or list(self._words)[-1:]
        last = f"; it said: {telling[0]}" if telling and not self._reason else ""
        what = f"the reasoner's process ended before it had answered: {how}{last}"
        # A failure may be retried, but not a process that the program itself has closed.
        return Cancelled(what) if how == _CLOSED else RuntimeFailure(what + _AGAIN)

    def _read_words(self) -> None:
        """Keep the last lines of stderr, where libraries write before they fail."""
        pipe = cast(Iterable[bytes], self._process.stderr)
        for line in pipe:
            if text := line.decode(errors="replace").strip():
                self._words.append(text[:500])
        if self._process.stderr is not None:
            self._process.stderr.close()


def error_of(failed: Failed) -> EdgeError:
    """Return the error that the other side raised, of the same class if this SDK has it."""
    kind = getattr(errors, failed.kind, RuntimeFailure)
    # The initialisers of some classes build the text from parts; here it is already complete.
    return cast(EdgeError, kind.__new__(kind, failed.text))


def interpreter() -> str:
    """Return the Python that starts processes: this one, or the one given to `multiprocessing.set_executable`.

    Raises `MissingDependencyError` if the program embeds Python, so that it is no interpreter itself, and none was
    given.
    """
    own = sys.executable or ""
    if own and not getattr(sys, "frozen", False):
        return own
    from multiprocessing import spawn  # imported here because only frozen or embedding programs need it

    told = os.fsdecode(spawn.get_executable() or b"")
    if told in ("", own):
        kind = f"a frozen program, {own!r}" if own else "no sys.executable, as in a program that embeds Python"
        raise MissingDependencyError(
            f"expected a Python interpreter to start the reasoner's process with, found {kind}; give one of Python "
            f"{sys.version_info.major}.{sys.version_info.minor} that can import edge_sdk, with "
            "multiprocessing.set_executable(path)"
        )
    return told


def _above_standard(end: socket.socket) -> socket.socket:
    """Return another socket of `end` above 2: a program without stdin and stdout may have been given their numbers."""
    return socket.socket(fileno=fcntl.fcntl(end.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))


def _start(end: socket.socket) -> subprocess.Popen[bytes]:
    """Start a fresh interpreter with `end`, in its own session so that Ctrl-C reaches only the parent."""
    found = [each for each in sys.path if Path(each).is_absolute()]
    return subprocess.Popen(
        [interpreter(), "-c", _WORKER, str(end.fileno()), *found],
        pass_fds=(end.fileno(),),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _how(code: int, budget_mb: float | None) -> str:
    if code == 0:
        # It ends with 0 only when this side tells it to; an ignored SIGCHLD hides the true code.
        return "how is unknown, perhaps because this program ignores SIGCHLD"
    if code > 0:
        return f"it exited with code {code}"
    ended, hint = -code, ""
    if ended == signal.SIGKILL:
        hint = ", perhaps by the system because memory ran out"
    elif ended == signal.SIGABRT and budget_mb is not None:
        # Libraries abort if an allocation fails where they cannot report it.
        hint = f", perhaps because it needed more than its budget of {budget_mb:.0f} MB"
    # Real-time signals have no names.
    named = {each.value: each.name for each in signal.Signals}
    return f"it was ended by {named.get(ended, f'signal {ended}')}{hint}"
