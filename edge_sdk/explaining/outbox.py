"""Queue of messages to the reasoner's process, so that senders never wait.

A process that is stopped or swapping reads nothing meanwhile, and a picture is larger than a socket's buffer. The loop
that watches cameras must not wait for either, even when it abandons a clip whose pictures are still being sent.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import NamedTuple

from edge_sdk.explaining.channel import Channel
from edge_sdk.explaining.messages import Drop, Message, encode


class _Waiting(NamedTuple):
    """A message that is not sent yet, and the clip it belongs to."""

    job: int | None
    body: bytes
    data: bytes


class Outbox:
    """Sends messages over a channel, in order, on its own thread. Any thread may call `put`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._news = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._open = True
        self._thread = threading.Thread(target=self._send, name="edge-sdk sending", daemon=True)
        self._thread.start()

    def put(self, message: Message, data: memoryview | bytes = b"") -> None:
        """Queue `message` with a copy of contiguous `data`; it is lost if the other side is gone.

        Dropping a clip also removes its queued messages, so that abandoned clips leave nothing behind. Raises
        `UnicodeEncodeError` for text that a message cannot carry.
        """
        given = _Waiting(getattr(message, "job", None), encode(message), bytes(data))
        with self._news:
            if isinstance(message, Drop):
                self._waiting = deque(each for each in self._waiting if each.job != message.job)
            if self._open:
                self._waiting.append(given)
                self._news.notify()

    def close(self) -> None:
        """Stop sending and wait for the thread to end; the channel must be shut, or the other side must be reading."""
        self._end()
        # The garbage collector may call this on any thread, including the sending thread itself.
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
        """Wait for the next message to send; None if there will be no more."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or not self._open)
            return self._waiting.popleft() if self._open else None

    def _end(self) -> None:
        with self._news:
            self._open = False
            self._waiting.clear()
            self._news.notify_all()
