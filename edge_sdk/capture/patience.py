"""Run work that may never return, such as calls into drivers, on its own thread; abandon it if it takes too long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from edge_sdk.errors import SourceError

T = TypeVar("T")

# How many jobs may be abandoned at a time: each keeps its thread and everything that the thread holds.
MOST_LEFT = 3


class Patience:
    """Runs jobs with a limit of `limit_s` each; for one calling thread at a time."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._left: list[threading.Thread] = []

    def do(self, what: str, work: Callable[[], T], late: Callable[[T], object] = lambda _: None) -> T:
        """Return or raise what `work` does; a result after the limit is passed to `late`.

        Raises `SourceError` if `work` takes longer than the limit. Also raises it, without starting `work`, while
        `MOST_LEFT` earlier jobs are still running.
        """
        self._left = [thread for thread in self._left if thread.is_alive()]
        if len(self._left) >= MOST_LEFT:
            raise SourceError(f"{len(self._left)} earlier attempts hang in a driver; restart its service, or reboot")
        job = _Job(work, late)
        thread = threading.Thread(target=job.run, name=f"edge-sdk {what}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # An interpreter that is shutting down starts no threads, but pipelines must still be taken down.
            job.run()
            return job.result()
        thread.join(self._limit_s)
        if job.abandoned():
            self._left.append(thread)
            raise SourceError(
                f"{what} took more than {self._limit_s:g} s: a driver hangs; restart its service, or reboot"
            )
        return job.result()


class _Job(Generic[T]):
    def __init__(self, work: Callable[[], T], late: Callable[[T], object]) -> None:
        self._work, self._late = work, late
        self._lock, self._abandoned = threading.Lock(), False
        self._found: list[T] = []
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Do the work; runs on the job's thread."""
        try:
            found = [self._work()]
        except BaseException as error:
            self._failure, found = error, []
        with self._lock:
            self._found = found
            done = self._abandoned
        if done and found:
            self._late(found[0])

    def abandoned(self) -> bool:
        """Abandon the job unless it is done; returns whether it was abandoned."""
        with self._lock:
            self._abandoned = not self._found and self._failure is None
        return self._abandoned

    def result(self) -> T:
        """Return or raise what the work did."""
        if self._failure is not None:
            raise self._failure
        return self._found[0]
