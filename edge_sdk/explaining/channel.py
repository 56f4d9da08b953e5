"""Messages over a socket: two lengths, the message, and the bytes that belong to it.

A send that is interrupted half-way would leave the other side waiting for the rest of a message that never comes. The
channel is then shut, so that both sides notice at once.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress

import msgspec

from edge_sdk.explaining.messages import Message, Parcel, decode, encode

_HEAD = struct.Struct("!II")
# A message is text and numbers; its data is at most one picture with sides of 16,384 pixels.
_MESSAGE_LIMIT, DATA_LIMIT = 1 << 22, 3 * 16384**2
# Longer than any machine runs, and still representable as a system timeout.
_NEVER_S = 1e9
# A program that keeps SIGPIPE's default would be ended by a send to a process that has died.
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)


class Channel:
    """One end of a connection. Any thread may send; only one may receive."""

    def __init__(self, end: socket.socket, send_timeout_s: float | None = None) -> None:
        """Wrap a socket; the other side counts as gone if it reads nothing for `send_timeout_s`."""
        self._end = end
        if send_timeout_s is not None and send_timeout_s < _NEVER_S:
            # `settimeout` would limit receiving too.
            wait = struct.pack("@ll", int(send_timeout_s), 0)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
        self._sending = threading.Lock()

    def send(self, message: Message, data: memoryview | bytes = b"") -> None:
        """Send `message` and contiguous `data`; waits while the other side does not read.

        Raises `BrokenPipeError` if the other side is gone.
        """
        self.send_encoded(encode(message), data)

    def send_encoded(self, body: bytes, data: memoryview | bytes = b"") -> None:
        """Send the encoded message `body`; otherwise as `send`."""
        with self._sending:
            try:
                self._end.sendall(_HEAD.pack(len(body), len(data)) + body, _NO_SIGNAL)
                if len(data):
                    self._end.sendall(data, _NO_SIGNAL)
            except OSError as error:
                self.shut()
                raise BrokenPipeError("the other side of the channel is gone") from error
            except BaseException:
                self.shut()
                raise

    def receive(self) -> Parcel:
        """Receive the next message. Raises `EOFError` at the end of the connection, or for data that is no message."""
        body_bytes, data_bytes = _HEAD.unpack(self._exactly(_HEAD.size))
        if body_bytes > _MESSAGE_LIMIT or data_bytes > DATA_LIMIT:
            raise EOFError(f"a message of {body_bytes} and {data_bytes} bytes")
        try:
            message = decode(self._exactly(body_bytes))
        except msgspec.DecodeError as error:
            raise EOFError(str(error)) from error
        return Parcel(message, self._exactly(data_bytes))

    def shut(self) -> None:
        """End the connection; threads waiting in `receive` on either side get `EOFError`."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection and close the socket."""
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
