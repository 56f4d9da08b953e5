"""What a program has still to tell its reasoner's process: whoever says something waits for nothing.

A process that is stopped, or swaps, reads nothing for as long. Pictures are larger than what a socket holds, and the
loop that watches cameras gives up clips whose pictures are on their way.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import NamedTuple

from edge_sdk.explaining.channel import Channel
from edge_sdk.explaining.messages import Drop, Message, encode


class _Waiting(NamedTuple):
    """A message that was not sent yet, and the clip that it is about."""

    job: int | None
    body: bytes
    data: bytes


class Outbox:
    """Sends over a channel what it is given, in order, on a thread of its own. Any thread may give."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._news = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._open = True
        self._thread = threading.Thread(target=self._send, name="edge-sdk sending", daemon=True)
        self._thread.start()

    def put(self, message: Message, data: memoryview | bytes = b"") -> None:
        """Have `message` sent with a copy of `data`, contiguous; it is lost when there is no other side any more.

        A clip that is dropped takes along what waits for it, so that clips that come and go leave nothing behind.
        Raises `UnicodeEncodeError` for text that no message can carry.
        """
        given = _Waiting(getattr(message, "job", None), encode(message), bytes(data))
        with self._news:
            if isinstance(message, Drop):
                self._waiting = deque(each for each in self._waiting if each.job != message.job)
            if self._open:
                self._waiting.append(given)
                self._news.notify()

    def close(self) -> None:
        """Send nothing more, and wait until the thread is gone; the channel must be shut, or its other side read."""
        self._end()
        # What is no longer used is put away by whichever thread comes by, which may be this one.
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _send(self) -> None:
        try:
            with suppress(BrokenPipeError):
                while (given := self._next()) is not None:
                    self._channel.send_encoded(given.body, given.data)
        finally:
            self._end()

    def _next(self) -> _Waiting | None:
        """What is to be sent next, waited for; None when there will be no more."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or not self._open)
            return self._waiting.popleft() if self._open else None

    def _end(self) -> None:
        with self._news:
            self._open = False
            self._waiting.clear()
            self._news.notify_all()
