"""Control the RTSP server of tests and benchmarks as a separate process: start, make misbehave, kill, restart.

The server is `camera.py`; it shares no process with what is measured, so it can fail like a real camera.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from types import TracebackType
from typing import Literal
from urllib.parse import quote

import msgspec

from edge_sdk.errors import ConfigError
from edge_sdk.types import Value

Codec = Literal["h264", "h265", "mjpeg", "vp8"]

_PROGRAM = "edge_sdk.benchmarks.live.camera"
# Number of additional addresses of the one camera.
VIEWS = 64
# Below the ports that Linux and macOS assign to connections and to port 0 (`ip_local_port_range`), so that no other
# program gets a camera's port while the camera is down.
PORTS = range(20_000, 30_000)


class Stream(Value, frozen=True, kw_only=True):
    """Settings of the stream. `port` 0 takes a free port; with a `user` it asks for the password, basic or digest."""

    codec: Codec = "h264"
    width: int = 1280
    height: int = 720
    rate_hz: float = 30.0
    gop_s: float = 1.0
    kbit_s: int = 4000
    audio: bool = False
    user: str = ""
    password: str = ""
    port: int = 0


def own_port() -> int:
    """A free port of 127.0.0.1 that a server can use again. Raises `ConfigError` after a hundred taken ports."""
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as trial, suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port
    raise ConfigError(
        f"the RTSP server: a hundred of the ports {PORTS.start} to {PORTS.stop - 1} were tried, all are in use"
    )


class RtspServer:
    """A running server on 127.0.0.1. Use as a context manager; it ends with this process in any case."""

    def __init__(self, stream: Stream | None = None) -> None:
        wanted = stream or Stream()
        self.stream = msgspec.structs.replace(wanted, port=wanted.port or own_port())
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Id of the server's process."""
        return self._process.pid

    @property
    def uri(self) -> str:
        """Address of the stream, with the credentials of its settings."""
        return self.uri_as(self.stream.user, self.stream.password)

    def uri_as(self, user: str, password: str) -> str:
        """Address of the stream with these credentials; without any for an empty `user`."""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
        return f"rtsp://{login}127.0.0.1:{self.stream.port}/camera"

    def views(self, count: int) -> list[str]:
        """Addresses of the one camera for `count` sources of a unit, which must differ; `VIEWS` at most."""
        return [f"{self.uri}/{number}" for number in range(VIEWS)][:count]

    def tell(self, command: str) -> None:
        """Give one of the commands of `camera.py` and wait until it is obeyed. Raises `ConfigError`."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        self._answer()

    def stop(self) -> None:
        """Freeze the process (SIGSTOP); its connections stay open and silent."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let the process continue after `stop` (SIGCONT)."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process without notice to its clients (SIGKILL)."""
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()

    def restart(self, stream: Stream | None = None) -> None:
        """Kill the server and start it again on the same port, with another stream where one is given."""
        self.kill()
        self.stream = msgspec.structs.replace(stream or self.stream, port=self.stream.port)
        self._process = self._start()

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _PROGRAM, msgspec.json.encode(self.stream).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self._answer()
        except ConfigError:
            self.kill()
            raise
        return self._process

    def _answer(self) -> dict[str, str]:
        """The server's next line. Raises `ConfigError` for an error message, or where the server has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found: dict[str, str] = json.loads(line) if line else {"error": "it has ended; see its messages above"}
        if "error" in found:
            raise ConfigError(f"the RTSP server: {found['error']}")
        return found
