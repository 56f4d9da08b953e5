"""Work that may never return, as drivers and their services go: done aside, and left behind when it takes too long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from edge_sdk.errors import SourceError

T = TypeVar("T")

# So many may be left behind: each is a thread, and what it holds.
MOST_LEFT = 3


class Patience:
    """Does work with `limit_s` for each; for one thread at a time."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._left: list[threading.Thread] = []

    def do(self, what: str, work: Callable[[], T], late: Callable[[T], object] = lambda _: None) -> T:
        """What `work` returns or raises. What it returns after the limit is given to `late`.

        Raises `SourceError` where it takes longer, and, without beginning, while `MOST_LEFT` others still do.
        """
        self._left = [thread for thread in self._left if thread.is_alive()]
        if len(self._left) >= MOST_LEFT:
            raise SourceError(f"{len(self._left)} earlier attempts hang in a driver or its service; restart that")
        job = _Job(work, late)
        thread = threading.Thread(target=job.run, name=f"edge-sdk {what}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # An interpreter that ends gives no new threads; what takes a pipeline down must be done all the same.
            job.run()
            return job.result()
        thread.join(self._limit_s)
        if job.abandoned():
            self._left.append(thread)
            raise SourceError(f"{what} took more than {self._limit_s:g} s: a driver or its service hangs")
        return job.result()


class _Job(Generic[T]):
    def __init__(self, work: Callable[[], T], late: Callable[[T], object]) -> None:
        self._work, self._late = work, late
        self._lock, self._abandoned = threading.Lock(), False
        self._found: list[T] = []
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Do the work; on the thread of the job."""
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
        """Whether nobody waits any more because it is not done."""
        with self._lock:
            self._abandoned = not self._found and self._failure is None
        return self._abandoned

    def result(self) -> T:
        """What it returned or raised."""
        if self._failure is not None:
            raise self._failure
        return self._found[0]
