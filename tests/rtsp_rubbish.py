"""Things that answer on an RTSP port and are no camera: each says so much that is right, and then goes wrong.

`rubbish`: random bytes after a proper answer to OPTIONS. `noise`: a proper session, but its RTP packets hold random
bytes. `silent`: a proper session in which no packet ever comes. `deaf`: takes the connection and never answers. `lost`:
says 404 to everything.
"""

from __future__ import annotations

import random
import re
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from edge_sdk.benchmarks.live.server import own_port

SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\n"
    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
)
METHODS = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"
TRANSPORT = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"


class _Session(socketserver.StreamRequestHandler):
    """One client. `kind` is set by `rubbish_server`."""

    kind = ""

    def handle(self) -> None:
        try:
            for request in iter(self._request, ""):
                self._answer(request)
        except OSError:
            return

    def _request(self) -> str:
        """The next request's head, empty at the end of the connection."""
        lines = []
        for line in iter(self.rfile.readline, b""):
            lines.append(line.decode("latin-1").strip())
            if not lines[-1]:
                return "\n".join(lines)
        return ""

    def _answer(self, request: str) -> None:
        method = request.split(maxsplit=1)[0]
        if self.kind == "deaf":
            return
        if method == "OPTIONS":
            self._reply(request, "200 OK", METHODS)
        elif self.kind == "rubbish":
            self._write(random.Random(1).randbytes(4096))
        elif self.kind == "lost":
            self._reply(request, "404 Not Found")
        elif method == "DESCRIBE":
            self._reply(request, "200 OK", "Content-Type: application/sdp", body=SDP)
        else:
            self._reply(request, "200 OK", "Session: 1;timeout=60", *([TRANSPORT] if method == "SETUP" else []))
        if method == "PLAY" and self.kind == "noise":
            self._noise()

    def _noise(self) -> None:
        """RTP version 2, payload type 96, one marked packet each 20 ms until the client leaves."""
        chance = random.Random(2)
        for number in range(10**6):
            head = (
                bytes([0x80, 0xE0]) + (number % 2**16).to_bytes(2, "big") + (number * 1800 % 2**32).to_bytes(4, "big")
            )
            packet = head + b"\0\0\0\1" + chance.randbytes(chance.randint(1, 900))
            self._write(b"$\0" + len(packet).to_bytes(2, "big") + packet)
            time.sleep(0.02)

    def _reply(self, request: str, status: str, *headers: str, body: str = "") -> None:
        number = re.search(r"CSeq: *(\d+)", request, re.IGNORECASE)
        head = [f"RTSP/1.0 {status}", f"CSeq: {number.group(1) if number else 0}", *headers]
        self._write("\r\n".join([*head, f"Content-Length: {len(body)}", "", body]).encode())

    def _write(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


@contextmanager
def rubbish_server(kind: str, port: int = 0) -> Iterator[str]:
    """Serve on a free port, or on `port`, of 127.0.0.1; gives the URI. A camera can come up at the port afterwards."""
    handler = type("Session", (_Session,), {"kind": kind})
    with _Server(("127.0.0.1", port or own_port()), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"rtsp://127.0.0.1:{server.server_address[1]}/camera"
        finally:
            server.shutdown()
            thread.join()
