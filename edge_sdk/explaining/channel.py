"""Messages over a socket: two lengths, the message, the bytes that belong to it.

A send that was interrupted half-way leaves the other side waiting for the rest of a message that will not come; so the
channel is then shut, and both sides learn of it at once.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress

import msgspec

from edge_sdk.explaining.messages import Message, Parcel, decode, encode

_HEAD = struct.Struct("!II")
# A message is words and numbers; its bytes are at most one picture of 16,384 pixels a side.
_MESSAGE_LIMIT, DATA_LIMIT = 1 << 22, 3 * 16384**2
# Longer than any machine runs, and still a number of seconds that the system can hold.
_NEVER_S = 1e9


class Channel:
    """One end of a connection. Any thread may send, one receives."""

    def __init__(self, end: socket.socket, send_timeout_s: float | None = None) -> None:
        """`send_timeout_s`: a side that reads nothing for so long is taken for gone."""
        self._end = end
        if send_timeout_s is not None and send_timeout_s < _NEVER_S:
            # Not `settimeout`, which would bound receiving too.
            wait = struct.pack("@ll", int(send_timeout_s), 0)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
        self._sending = threading.Lock()

    def send(self, message: Message, data: memoryview | bytes = b"") -> None:
        """Send `message` and `data`, contiguous; waits while the other side does not read.

        Raises `BrokenPipeError` when there is no other side any more.
        """
        self.send_encoded(encode(message), data)

    def send_encoded(self, body: bytes, data: memoryview | bytes = b"") -> None:
        """Send the message that `body` is; otherwise as `send`."""
        with self._sending:
            try:
                self._end.sendall(_HEAD.pack(len(body), len(data)) + body)
                if len(data):
                    self._end.sendall(data)
            except OSError as error:
                self.shut()
                raise BrokenPipeError("the other side of the channel is gone") from error
            except BaseException:
                self.shut()
                raise

    def receive(self) -> Parcel:
        """The next message. Raises `EOFError` at the end of the connection, or when what comes is no message."""
        body_bytes, data_bytes = _HEAD.unpack(self._exactly(_HEAD.size))
        if body_bytes > _MESSAGE_LIMIT or data_bytes > DATA_LIMIT:
            raise EOFError(f"a message of {body_bytes} and {data_bytes} bytes")
        try:
            message = decode(self._exactly(body_bytes))
        except msgspec.DecodeError as error:
            raise EOFError(str(error)) from error
        return Parcel(message, self._exactly(data_bytes))

    def shut(self) -> None:
        """End the connection; a thread that waits in `receive`, on either side, gets `EOFError`."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection and let go of the socket."""
        self.shut()
        self._end.close()

    def _exactly(self, count: int) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        while view.nbytes:
            try:
                got = self._end.recv_into(view)
            except OSError as error:
                raise EOFError("the connection is broken") from error
            if not got:
                raise EOFError("the connection has ended")
            view = view[got:]
        return data
