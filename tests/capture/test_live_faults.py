"""What can go wrong with a camera, on a real RTSP server: the right state and message each time, then recovery.

Most of a fault is waiting, so the scenarios run side by side, each on a thread with a server of its own, while a
healthy source in the same process must not notice.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from rtsp_rubbish import rubbish_server

import edge_sdk
from edge_sdk.benchmarks.live.reconnects import ReconnectRun
from edge_sdk.benchmarks.live.server import RtspServer, Stream
from edge_sdk.benchmarks.live.watched import Watched, watch
from edge_sdk.capture import LiveSettings

SMALL = Stream(width=256, height=144, rate_hz=15.0, kbit_s=400)
LOCKED = Stream(width=256, height=144, rate_hz=15.0, kbit_s=400, user="viewer", password="right")
SECRET = "s3cret:p@ss"
# What the sources must keep to: stalled after silence, live after recovery.
STALL_S, LIVE_AGAIN_S = 2.5, 5.0
# The first wait after a refusal, and the longest wait in the first two minutes of an outage otherwise.
REFUSED_S, BACKOFF_S = 5.0, 2.0
CONNECT_S = 5.0
RECONNECTS = "edge_sdk.benchmarks.live.reconnects"
SIDE_BY_SIDE = 6
TIMEOUT_S = 200.0


@contextmanager
def camera(stream: Stream = SMALL, live: LiveSettings | None = None) -> Iterator[tuple[RtspServer, Watched]]:
    """A server and a source that is live on it."""
    with RtspServer(stream) as server, watch(server.uri, live) as source:
        source.wait_live(10.0)
        source.changes.clear()
        yield server, source


def stopped_for(seconds: float, live_again_s: float) -> list[str]:
    """The camera's process stops as it stands, its connections open, and goes on later."""
    with camera() as (server, source):
        stopped_s = time.monotonic()
        server.stop()
        try:
            change = source.wait_for("stalled", STALL_S + 0.5)
            source.wait(stopped_s + seconds - time.monotonic())
        finally:
            server.go_on()
        source.wait_live(live_again_s)
        assert change.at_s - stopped_s <= STALL_S
        assert "nothing has come" in change.reason
        return source.states


def stopped_for_5s() -> None:
    assert stopped_for(5.0, LIVE_AGAIN_S)[:3] == ["stalled", "backoff", "connecting"]


def stopped_for_20s() -> None:
    states = stopped_for(20.0, LIVE_AGAIN_S)
    assert states[:3] == ["stalled", "backoff", "connecting"]
    assert states[-1] == "live"


def stopped_for_90s() -> None:
    assert stopped_for(90.0, BACKOFF_S + LIVE_AGAIN_S)[-1] == "live"


def killed() -> None:
    with camera() as (server, source):
        killed_s = time.monotonic()
        server.kill()
        change = source.wait_for("backoff", 1.5)
        assert change.at_s - killed_s < 1.0
        assert change.reason
        source.wait(1.5)
        assert "nothing answers at 127.0.0.1" in "".join(change.reason for change in source.changes)
        server.restart()
        source.wait_live(LIVE_AGAIN_S)
        assert source.states[-2:] == ["connecting", "live"]


def wrong_password() -> None:
    with RtspServer(LOCKED) as server, watch(server.uri_as("viewer", SECRET)) as source:
        change = source.wait_for("backoff", CONNECT_S)
        assert "password is wrong" in change.reason
        assert change.retry_in_s == REFUSED_S
        server.tell(f"password viewer {SECRET}")
        source.wait_live(REFUSED_S + LIVE_AGAIN_S)
        inside = source.source
        told = repr(
            (source.changes, inside.uri, inside.info, inside.stats, [each.frame.source for each in source.sights])
        )
        assert "127.0.0.1" in told
        for secret in (SECRET, "s3cret", "p%40ss", "viewer"):
            assert secret not in told


def no_password() -> None:
    with RtspServer(LOCKED) as server, watch(server.uri_as("", "")) as source:
        assert "asks for a user and a password" in source.wait_for("backoff", CONNECT_S).reason


def wrong_codec() -> None:
    with RtspServer(msgspec.structs.replace(SMALL, codec="vp8")) as server, watch(server.uri) as source:
        change = source.wait_for("backoff", CONNECT_S)
        assert "VP8" in change.reason
        assert change.retry_in_s == REFUSED_S
        server.restart(SMALL)
        source.wait_live(REFUSED_S + LIVE_AGAIN_S)
        assert source.source.info is not None
        assert source.source.info.codec == "h264"


def no_camera(kind: str, reason: str, within_s: float) -> None:
    """Something else answers at the address; then the camera is back at it."""
    with ExitStack() as other:
        uri = other.enter_context(rubbish_server(kind))
        with watch(uri) as source:
            change = source.wait_for("backoff", within_s)
            assert reason in change.reason
            other.close()
            port = int(uri.split(":")[2].partition("/")[0])
            with RtspServer(msgspec.structs.replace(SMALL, port=port)):
                source.wait_live((change.retry_in_s or 0.0) + BACKOFF_S + LIVE_AGAIN_S)


def rubbish_instead_of_rtsp() -> None:
    no_camera("rubbish", "does not speak RTSP", CONNECT_S + 1)


def rubbish_instead_of_video() -> None:
    no_camera("noise", "264", CONNECT_S + 1)


def packets_never_come() -> None:
    no_camera("silent", "nothing came within", CONNECT_S + 1)


def answers_never_come() -> None:
    no_camera("deaf", "answer", CONNECT_S + 1)


def no_such_stream() -> None:
    no_camera("lost", "no such stream", CONNECT_S)


def size_of(source: Watched) -> tuple[int, int]:
    info = source.source.info
    return (info.width, info.height) if info is not None else (0, 0)


def resolution_changes() -> None:
    with camera() as (server, source):
        for width, height in ((640, 360), (128, 72)):
            server.tell(f"resize {width} {height}")
            source.wait_until(lambda size=(width, height): size_of(source) == size, LIVE_AGAIN_S)
            source.wait_live(LIVE_AGAIN_S)


def pictures_are_damaged() -> None:
    with camera() as (server, source):
        server.tell("corrupt 0.05")
        source.wait(4.0)
        damaged = source.sights[:]
        server.tell("corrupt 0")
        source.wait_live(LIVE_AGAIN_S)
        assert source.states or any(sight.age_ms is None for sight in damaged), "nothing was damaged"


def pictures_freeze_and_move_again() -> None:
    with camera(live=LiveSettings(frozen_timeout_s=2.0)) as (server, source):
        server.tell("freeze")
        change = source.wait_for("stalled", 4.0)
        assert "the same picture for 2 s" in change.reason
        source.wait_for("live", BACKOFF_S + LIVE_AGAIN_S)
        source.wait(4.0)
        assert source.source.state == "live", "a rebuild has not helped: it is a still scene, and not rebuilt again"
        assert "still scene" in "".join(source.source.stats.warnings)
        server.tell("thaw")
        source.wait_live(LIVE_AGAIN_S)
        assert source.states.count("stalled") == 1


def pictures_stop_and_come_again() -> None:
    with camera() as (server, source):
        muted_s = time.monotonic()
        server.tell("mute")
        assert source.wait_for("stalled", STALL_S + 0.5).at_s - muted_s <= STALL_S
        server.tell("unmute")
        source.wait_live(BACKOFF_S + LIVE_AGAIN_S)


def sender_reports_stop() -> None:
    with camera() as (server, source):
        server.tell("rtcp off")
        source.wait(8.0)
        assert source.changes == []
        assert source.longest_pause_s() < 1.0


def one_of_two_in_a_unit_dies() -> None:
    """Frames of the one go on being scored while the other is gone."""
    with RtspServer(SMALL) as good, RtspServer(SMALL) as bad, edge_sdk.open([good.uri, bad.uri]) as unit:
        timers = [threading.Timer(4.0, bad.kill), threading.Timer(8.0, unit.stop)]
        for timer in timers:
            timer.start()
        begin_s = time.monotonic()
        seen = [(time.monotonic() - begin_s, step.stream) for step in unit.steps() if not step.frame.repeated]
        for timer in timers:
            timer.join()
    alone = [at_s for at_s, stream in seen if stream == 0 and at_s > 4.5]
    assert len(alone) >= 28, "10 rounds a second for 3.5 s"
    assert any(stream == 1 and at_s < 4.0 for at_s, stream in seen)
    assert all(stream == 0 for at_s, stream in seen if at_s > 4.5)


def twenty_reconnects() -> None:
    """In a process of its own, whose threads, files and memory are its own, too."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", RECONNECTS, "--count", "20", "--sources", "2", "--out", folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        assert "slope" in done.stdout, done.stderr
        run = msgspec.json.decode((Path(folder) / "reconnects.json").read_bytes(), type=ReconnectRun)
    assert run.reconnects == 20
    assert run.states["live"] >= 20
    assert run.states["backoff"] >= 20
    # Beside the other faults an attempt may be lost.
    assert run.live_again_max_s < CONNECT_S + BACKOFF_S + LIVE_AGAIN_S
    assert run.threads_last <= run.threads_first + 4
    assert run.files_last <= run.files_first + 4
    assert run.resident_last_kb - run.resident_first_kb < 60 * 1024  # allocators fill their arenas in the first minute


SCENARIOS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        twenty_reconnects,
        stopped_for_20s,
        wrong_codec,
        wrong_password,
        rubbish_instead_of_video,
        packets_never_come,
        answers_never_come,
        stopped_for_5s,
        pictures_freeze_and_move_again,
        sender_reports_stop,
        pictures_are_damaged,
        rubbish_instead_of_rtsp,
        no_such_stream,
        killed,
        pictures_stop_and_come_again,
        one_of_two_in_a_unit_dies,
        resolution_changes,
        no_password,
    )
}


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Watched]]:
    """Runs the selected scenarios; gives the healthy source once the named one is over and was as it should be."""
    names = [item.callspec.params["name"] for item in request.session.items if "running" in item.fixturenames]
    over = threading.Event()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool, ThreadPoolExecutor(1) as apart:
        healthy = apart.submit(bystander, over)
        futures: dict[str, Future[None]] = {name: pool.submit(SCENARIOS[name]) for name in names if name in SCENARIOS}

        def result(name: str) -> Watched | None:
            if name in futures:
                return futures[name].result(TIMEOUT_S)
            wait(futures.values(), TIMEOUT_S)
            over.set()
            return healthy.result(TIMEOUT_S)

        try:
            yield result
        finally:
            over.set()


def bystander(over: threading.Event) -> Watched:
    """A healthy source for as long as the others have their troubles."""
    with camera() as (_, source):
        while not over.is_set():
            source.wait(0.2)
        return source


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_fault_is_told_and_recovered_from(name: str, running: Callable[[str], Watched | None]) -> None:
    running(name)


@pytest.mark.parametrize("name", ["bystander"])
def test_a_healthy_source_notices_nothing(name: str, running: Callable[[str], Watched | None]) -> None:
    source = running(name)
    assert source is not None
    assert source.changes == []
    assert source.longest_pause_s() < 1.5


@pytest.mark.slow
def test_a_camera_that_stops_for_90_s() -> None:
    stopped_for_90s()
