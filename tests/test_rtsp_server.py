"""The camera that the live tests believe in, seen by another client: FFmpeg."""

from __future__ import annotations

import gc
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_sdk.benchmarks.live import stamp
from edge_sdk.benchmarks.live.camera import Camera
from edge_sdk.benchmarks.live.server import PORTS, RtspServer, Stream
from edge_sdk.capture.gst.binding import Gst
from edge_sdk.errors import ConfigError

# JPEG over RTP counts in blocks of 8 pixels
WIDTH, HEIGHT, RATE_HZ = 256, 144, 20.0


def small(codec: str = "h264", user: str = "", password: str = "") -> Stream:
    return Stream(
        codec=codec, width=WIDTH, height=HEIGHT, rate_hz=RATE_HZ, kbit_s=500, gop_s=0.5, user=user, password=password
    )


def seen(uri: str, count: int = 20) -> tuple[np.ndarray, str]:
    """Ticks in the pictures, -1 where one shows none, and what FFmpeg said."""
    command = ["ffmpeg", "-v", "error", "-rtsp_transport", "tcp", "-i", uri, "-frames:v", str(count)]
    done = subprocess.run(
        [*command, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    pictures = np.frombuffer(done.stdout, np.uint8).reshape(-1, HEIGHT, WIDTH)
    ticks = [stamp.read(picture) for picture in pictures]
    return np.array([-1 if each is None else each for each in ticks]), done.stderr.decode()


@pytest.mark.native
@pytest.mark.parametrize("codec", ["h264", "h265", "mjpeg", "vp8"])
def test_pictures_show_when_they_were_drawn_at_a_steady_rate(codec: str) -> None:
    with RtspServer(small(codec)) as server:
        ticks, said = seen(server.uri)
    assert len(ticks) == 20, said
    assert ticks.min() > 0
    assert np.median(np.diff(ticks)) * stamp.TICK_NS / 1e9 == pytest.approx(1 / RATE_HZ, rel=0.05)


def test_the_one_camera_is_seen_at_several_addresses() -> None:
    with RtspServer(small()) as server:
        assert len(set(server.views(3))) == 3
        assert all(len(seen(view, 2)[0]) == 2 for view in server.views(3))


def test_the_password_is_asked_for_and_can_change() -> None:
    with RtspServer(small(user="viewer", password="one/two")) as server:
        assert len(seen(server.uri, 2)[0]) == 2
        assert "401" in seen(server.uri_as("viewer", "three"), 2)[1]
        server.tell("password viewer three")
        assert len(seen(server.uri_as("viewer", "three"), 2)[0]) == 2


def test_it_freezes_moves_and_comes_back_on_its_port() -> None:
    with RtspServer(small()) as server:
        uri = server.uri
        server.tell("freeze")
        assert len(set(seen(uri, 10)[0])) == 1
        server.tell("thaw")
        assert len(set(seen(uri, 10)[0])) == 10
        server.kill()
        assert "refused" in seen(uri, 2)[1]
        server.restart(small("mjpeg"))
        assert server.uri == uri
        assert len(seen(uri, 2)[0]) == 2


def test_pictures_go_only_where_they_get_a_proper_stamp() -> None:
    """A source that does not play yet would stamp them by a base time that it has not been told."""
    Gst.init(None)
    pipeline = Gst.parse_launch("appsrc name=camera is-live=true do-timestamp=true format=time ! appsink name=sink")
    source, sink = pipeline.get_by_name("camera"), pipeline.get_by_name("sink")
    camera = Camera(small())
    camera.watch(source)
    pipeline.set_state(Gst.State.PAUSED)
    camera.push()
    assert source.get_property("current-level-buffers") == 0
    pipeline.set_state(Gst.State.PLAYING)
    camera.push()
    pts = sink.emit("try-pull-sample", 5 * Gst.SECOND).get_buffer().pts
    pipeline.set_state(Gst.State.NULL)
    assert pts < 5 * Gst.SECOND


def test_a_command_that_does_not_exist_is_refused() -> None:
    with RtspServer(small()) as server:
        with pytest.raises(ConfigError, match=r"no command 'explode'; known: freeze"):
            server.tell("explode")
        with pytest.raises(ConfigError, match="resize"):
            server.tell("resize 320")
        with pytest.raises(ConfigError, match="multiples of 8"):
            server.tell("resize 320 180")
        server.tell("thaw")


def test_a_port_that_is_taken_is_one_error_and_leaves_no_process() -> None:
    with RtspServer(small()) as server, pytest.raises(ConfigError, match=rf"port {server.stream.port} is not free"):
        RtspServer(msgspec.structs.replace(small(), port=server.stream.port))
    # A process or a pipe that stayed behind is a warning here, hence a failure.
    gc.collect()


def test_a_camera_comes_up_where_no_connection_is_given_a_port_by_chance() -> None:
    first, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split())
    if first <= PORTS.start:
        pytest.skip("this machine gives connections ports from all of the range")
    with RtspServer(small()) as server:
        assert server.stream.port < first
