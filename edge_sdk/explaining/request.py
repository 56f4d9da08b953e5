"""One clip that the reasoner's process works on, seen from the program that asks."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import Cancelled, ConfigError, EdgeError
from edge_sdk.events import Event
from edge_sdk.explaining.channel import DATA_LIMIT
from edge_sdk.explaining.child import Child, error_of
from edge_sdk.explaining.messages import (
    Ask,
    Drop,
    Failed,
    Finished,
    Message,
    Picture,
    Piece,
    ReasoningReport,
    Reply,
    Said,
    Taken,
)
from edge_sdk.explaining.sampling import over

# Pictures that may wait in the process: enough that it never waits for the next, few enough to need little memory.
AHEAD = 4
# How long answers may exceed their deadline, which is checked between chunks of work, before the process is killed.
GRACE_S = 10.0


def check_deadline(seconds: float | None) -> None:
    """Raise `ConfigError` for a deadline that is NaN."""
    if seconds is not None and math.isnan(seconds):
        raise ConfigError("expected a deadline in seconds, found nan; leave it out where there is none")


class Deadline:
    """A deadline in `seconds` from its creation; None means never. Raises what `check_deadline` raises."""

    def __init__(self, seconds: float | None) -> None:
        check_deadline(seconds)
        self._until_s = math.inf if seconds is None else time.monotonic() + seconds

    @property
    def until_s(self) -> float | None:
        """The end on the monotonic clock; None for never."""
        return None if math.isinf(self._until_s) else self._until_s

    @property
    def over(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self._until_s

    def left_s(self) -> float | None:
        """Return the seconds left, 0 when the deadline is over; None for never."""
        return None if math.isinf(self._until_s) else max(0.0, self._until_s - time.monotonic())

    def within_s(self, wait_s: float) -> float:
        """Return `wait_s`, or the time left if that is less."""
        left_s = self.left_s()
        return wait_s if left_s is None else min(wait_s, left_s)


class ClipRequest:
    """A clip that the reasoner works on: push its pictures, ask, push more, ask again, and close it.

    A failure ends the clip: every later call raises it.
    """

    def __init__(self, child: Child, number: int, release: Callable[[], None]) -> None:
        """Represent the clip `number`, which `child` has been told to begin; closing it calls `release`."""
        self.number = number
        self.report: ReasoningReport | None = None
        self._child, self._release = child, release
        self._since_s, self._asked = time.monotonic(), ""
        self._room, self._pushed = AHEAD, 0
        self._items: deque[Piece | Reply | Finished] = deque()
        self._failure: EdgeError | None = None
        self._open = True

    def push(self, pixels: NDArray[np.uint8], time_s: float, *, until_s: float | None = None) -> bool:
        """Add a copy of an RGB picture, uint8 `[height, width, 3]`, shown at `time_s` of the clip.

        Waits while `AHEAD` pictures are queued. Returns False, without adding the picture, if there is still no room at
        `until_s` on the monotonic clock. Raises `ConfigError` for another array, and the error that ended the clip.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ConfigError(f"expected a picture uint8 [height, width, 3], found {pixels.dtype} {pixels.shape}")
        if pixels.nbytes > DATA_LIMIT:
            raise ConfigError(
                f"expected a picture of at most {DATA_LIMIT // 10**6} MB, found {pixels.shape[1]}x{pixels.shape[0]}; "
                "scale it down: the model reads a smaller picture"
            )
        time_s = float(time_s)  # NumPy's own floats cannot be sent
        self._check_open()
        self._wait(lambda: self._room > 0 or self._child.ended or over(until_s))
        self.check()
        with self._child.news:
            if self._room < 1:
                return False
            self._room -= 1
        height, width, _ = pixels.shape
        data = np.ascontiguousarray(pixels).data.cast("B")
        self._child.send(Picture(job=self.number, width=width, height=height, time_s=time_s), data)
        self._pushed += 1
        return True

    def check(self) -> None:
        """Raise the error that ended the clip or its process, if either has ended."""
        if failure := self._failure or self._child.failure():
            raise failure.with_traceback(None)

    def ask(
        self,
        tasks: Sequence[str],
        *,
        deadline_s: float | None = None,
        zero_s: float = 0.0,
        events: Sequence[Event] | None = None,
        evidence: float | None = None,
    ) -> Generator[Piece | Reply, None, None]:
        """Ask `tasks`; yield text as it comes and each answer when it is complete. At the end, `report` is set.

        Answers that are incomplete after `deadline_s` are returned as far as they went, with `abstain` set; pictures
        that still wait in the process by then are left out of the clip, except its first. `zero_s` is the clip's time
        of the source's first decoded frame, from which the times of answers count. `events` are the student's events of
        the clip, the last revision of each, None if it did not watch. `evidence` is the student's highest score of the
        whole clip, None if it must not be used in answers. An answer comes again if a later one contradicts it. Raises
        `ConfigError` while an earlier question is not fully answered and for a deadline that is NaN, and the error that
        ended the clip.
        """
        check_deadline(deadline_s)
        deadline_s, evidence = (None if each is None else float(each) for each in (deadline_s, evidence))
        self._check_open()
        self.check()
        if self._asked:
            raise ConfigError(f"this clip is being asked for {self._asked}; read the answers to their end, or close it")
        until_s = None if deadline_s is None else time.monotonic() + deadline_s + GRACE_S
        seen = None if events is None else tuple(events)
        self._child.send(
            Ask(
                job=self.number,
                tasks=tuple(tasks),
                deadline_s=deadline_s,
                zero_s=float(zero_s),
                events=seen,
                evidence=evidence,
            )
        )
        self._asked = ", ".join(tasks)
        while True:
            self._wait(lambda: bool(self._items), until_s)
            item = self._items.popleft()
            if isinstance(item, Finished):
                self.report, self._asked = item.report, ""
                return
            yield item

    def close(self) -> None:
        """Abandon the clip without waiting.

        Work on it ends at the next chunk, and a thread that waits for it gets `Cancelled`. Further calls of `close` do
        nothing.
        """
        with self._child.news:
            if not self._open:
                return
            self._open = False
            self._failure = self._failure or Cancelled("this clip was closed before its answers were ready")
            self._child.news.notify_all()
        self._child.send(Drop(job=self.number))
        self._release()

    def describe(self) -> str:
        """Describe the work in progress, for those it keeps waiting."""
        asked = f", asked for {self._asked}" if self._asked else ""
        return f" with a clip of {self._pushed} pictures{asked}, for {time.monotonic() - self._since_s:.1f} s"

    def __enter__(self) -> ClipRequest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take(self, message: Message) -> None:
        """Take in a message about this clip; called by the listening thread, which holds `news`."""
        if isinstance(message, Taken):
            self._room += 1
        elif isinstance(message, Said):
            self._items.append(message.said)
        elif isinstance(message, Finished):
            self._items.append(message)
        elif isinstance(message, Failed):
            self._failure = error_of(message)

    def _check_open(self) -> None:
        self._child.check_here()
        if not self._open:
            raise ConfigError("this clip was closed; begin another")

    def _wait(self, ready: Callable[[], bool], until_s: float | None = None) -> None:
        """Wait until `ready` is true. Raises the error that ended the clip, `Cancelled` if it was closed."""
        self._child.wait_for(lambda: self._failure is not None or ready(), until_s)
        if self._failure is not None and not (self._open and ready()):
            raise self._failure.with_traceback(None)
