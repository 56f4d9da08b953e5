"""A live source on its own: how it opens, goes on, and ends, and that it leaves nothing behind.

What it makes of cameras that fail is in `test_live_faults.py`, what it shows in `test_live_rtsp.py`.
"""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from pushing import encode, next_frame, taken, until, wanted

from edge_sdk.benchmarks.live.results import resident_kb
from edge_sdk.benchmarks.live.server import RtspServer, Stream
from edge_sdk.capture import (
    CaptureSettings,
    Feed,
    HistorySettings,
    LiveSettings,
    is_live,
    open_live,
    open_source,
    platforms,
)
from edge_sdk.errors import ConfigError, MissingDependencyError, UnknownNameError
from edge_sdk.types import Frame

Studio = Any  # its class is in conftest.py, which pytest loads under a name of its own

SMALL = Stream(width=256, height=144, kbit_s=500)
NOBODY = "rtsp://somebody:s3cret@127.0.0.1:9/camera"


@pytest.fixture(scope="module")
def server() -> Iterator[RtspServer]:
    with RtspServer(SMALL) as running:
        yield running


def held() -> tuple[int, int]:
    """Open files and threads of this process."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir())), len(list(Path("/proc/self/task").iterdir()))


def supervisors() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("edge-sdk rtsp")]


def test_a_camera_that_is_off_is_waited_for() -> None:
    open_live(NOBODY, wanted()).close()  # the first one loads GStreamer
    with RtspServer(SMALL) as camera:
        uri = camera.uri
        camera.kill()
        begun_s = time.monotonic()
        with open_live(uri, wanted()) as source:
            assert time.monotonic() - begun_s < 0.5
            assert (source.state, source.latest(), source.info) == ("connecting", None, None)
            until(lambda: source.state == "backoff")
            camera.restart()
            frame = next_frame(source, 10.0)
            until(lambda: source.state == "live")
            changes, stats = source.changes(), source.stats
    assert (frame.sequence, frame.time_s, frame.restarted) == (0, 0.0, False)
    assert [change.state for change in changes][:3] == ["connecting", "backoff", "connecting"]
    assert changes[-1].state == "live"
    assert "nothing answers" in changes[1].reason
    assert stats.reconnects == [change.state for change in changes].count("connecting") - 1
    assert source.state == "ended"


@pytest.mark.native
def test_frames_go_on_after_a_rebuild_and_the_first_one_says_so() -> None:
    settings = wanted(pre_roll_s=5.0, history=HistorySettings(width=32, height=18, rate_hz=30.0, keep_s=20.0))
    with RtspServer(SMALL) as camera, open_live(camera.uri, settings) as source:
        frames = [next_frame(source) for _ in range(10)]
        camera.restart()
        frames += [next_frame(source, 10.0) for _ in range(10)]
        until(lambda: source.state == "live")
        assert source.ring is not None
        assert source.history is not None
        gaps, kept, stats = source.ring.gaps, source.history.since(0), source.stats
    broken = [frame.restarted for frame in frames].index(True)
    assert [frame.sequence for frame in frames] == list(range(20))
    assert [frame.restarted for frame in frames].count(True) == 1
    times = np.array([frame.time_s for frame in frames])
    assert np.all(np.diff(times) > 0)
    assert np.argmax(np.diff(times)) == broken - 1
    assert np.diff(times).max() > 0.4, "the shortest back-off"
    np.testing.assert_allclose(times, [frame.captured_s - frames[0].captured_s for frame in frames], atol=1e-9)
    assert len(gaps) == 1
    assert gaps[0][1] - gaps[0][0] == pytest.approx(np.diff(times).max(), abs=0.3)
    assert np.all(np.diff(kept.captured_s) > 0)
    assert np.diff(kept.captured_s).max() > 0.4
    assert stats.reconnects >= 1
    assert stats.decoded >= stats.delivered == 20
    assert stats.units >= stats.decoded


@pytest.mark.parametrize("broken", ["picture", "arrived", "warnings"])
def test_a_bug_costs_an_attempt_and_not_the_source(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a player raises, and that it fails again when it is taken down."""
    feed, picture = Feed("rgb", width=64, height=48), np.zeros((48, 64, 3), np.uint8)

    def fail(*_: object) -> None:
        raise ValueError("nothing like rtsp://user:s3cret@camera was foreseen")

    with open_live(feed, wanted()) as source:
        taken(feed, picture)
        next_frame(source)
        until(lambda: source.state == "live")
        source.changes()
        player = source._supervisor._player
        assert player is not None
        close = player.close
        monkeypatch.setattr(player, broken, fail)
        monkeypatch.setattr(player, "close", lambda: (close(), fail()))
        until(lambda: source.latest() or source._supervisor._player is not player)
        found: list[Frame] = []

        def pushed() -> bool:
            feed.push(picture)  # what the old pipeline still takes is lost
            found.extend(filter(None, [source.latest()]))
            return bool(found)

        until(pushed, 20.0)
        assert found[0].restarted
        until(lambda: source.state == "live")
        changes, stats = source.changes(), source.stats
    assert [change.state for change in changes] == ["backoff", "connecting", "live"]
    assert changes[0].reason == "ValueError: nothing like rtsp://***@camera was foreseen"
    assert changes[0].reason in stats.warnings
    assert stats.reconnects == 1


def test_latest_never_waits_for_a_teardown(server: RtspServer) -> None:
    with open_live(server.uri, wanted(stall_timeout_s=0.5)) as source:
        next_frame(source)
        server.stop()
        try:
            longest_s, until_s = 0.0, time.monotonic() + 2.0
            while time.monotonic() < until_s:
                begun_s = time.monotonic()
                source.latest()
                source.stats  # noqa: B018 - it must not wait either
                longest_s = max(longest_s, time.monotonic() - begun_s)
                time.sleep(0.001)
            assert "stalled" in [change.state for change in source.changes()]
            assert longest_s < 0.08, "RTSP's teardown alone takes 0.1 s when nobody answers"
        finally:
            server.go_on()


def test_size_and_range_may_change_in_mid_stream() -> None:
    """Luma 200 of studio range is 214 of full range; a small picture is scaled up into the same box."""
    flat = [np.full((192, 320), 200, np.uint8)] * 3
    small = [np.full((96, 160), 200, np.uint8)] * 3
    parts = {
        214: [*encode(flat, "h264"), *encode(small, "h264")],
        200: [*encode(flat, "h264", "1:4:16:4")],  # range 0..255
    }
    feed, seen = Feed("h264"), []
    with open_live(feed, CaptureSettings(width=320, height=192, policy="latest")) as source:
        for level, units in parts.items():
            for data, _ in units:
                taken(feed, data)
                seen.append((level, float(next_frame(source).pixels.mean())))
        assert source.stats.reconnects == 0
        assert source.info is not None
        assert (source.info.width, source.info.height) == (320, 192)
    for level, found in seen:
        assert found == pytest.approx(level, abs=2)


def test_units_of_the_ring_are_the_stream_that_was_shown(studio: Studio) -> None:
    units = [data for data, _ in encode(map(studio.counted, range(30)), "h264")]
    feed = Feed("h264")
    with open_live(feed, wanted(pre_roll_s=60.0)) as source:
        stamps = []
        for data in units:
            stamps.append(taken(feed, data))
            next_frame(source)
        feed.end()
        until(lambda: source.state == "ended")
        assert source.ring is not None
        kept = source.ring.since(0.0)
    assert [unit.key for unit in kept] == [number % 10 == 0 for number in range(30)]
    np.testing.assert_allclose([unit.captured_s for unit in kept], stamps, atol=1e-6)
    again = Feed("h264")
    with open_live(again, wanted()) as source:
        numbers = []
        for unit in kept:
            taken(again, unit.data)
            numbers.append(studio.read(next_frame(source).pixels))
    assert numbers == list(range(30))


def test_a_decoder_that_takes_no_such_stream_gives_way_to_the_next(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenH264 reads no pictures of ten bits; FFmpeg does."""
    software = msgspec.structs.replace(platforms.PLATFORMS[-1], decoders={"h264": ("openh264dec", "avdec_h264")})
    monkeypatch.setattr(platforms, "PLATFORMS", (software,))
    ten_bits = (
        "videoconvert ! video/x-raw,format=I420_10LE ! x264enc tune=zerolatency threads=1 "
        "! h264parse config-interval=-1 ! video/x-h264,profile=high-10,stream-format=byte-stream,alignment=au"
    )
    units = [data for data, _ in encode(map(studio.counted, range(10)), "h264", chain=ten_bits)]
    feed = Feed("h264")
    with open_live(feed, wanted()) as source:

        def shown() -> bool:
            for data in units:
                feed.push(data)
            return source.latest() is not None

        until(shown, 10.0)
        until(lambda: source.info is not None)
        changes, info, stats = source.changes(), source.info, source.stats
    assert "openh264dec does not support the profile or format of this stream" in changes[1].reason
    assert info is not None
    assert info.decoder == "avdec_h264"
    assert stats.warnings == ("openh264dec shows no picture of this h264 stream: avdec_h264 is tried instead",)


def test_a_camera_that_is_not_plugged_in_is_waited_for() -> None:
    with open_live("v4l2:///dev/video99", wanted()) as source:
        until(lambda: source.state == "backoff")
        assert "there is no camera at /dev/video99" in source.changes()[1].reason


def test_credentials_are_in_nothing_that_a_source_says() -> None:
    with open_live(NOBODY, wanted()) as source:
        until(lambda: source.state == "backoff")
        said = f"{source.uri} {source.changes()} {source.stats} {threading.enumerate()}"
    assert "127.0.0.1:9" in said
    assert "s3cret" not in said
    assert "somebody" not in said


@pytest.mark.parametrize(
    ("uri", "error", "says"),
    [
        ("clip.mp4", ConfigError, "not a live source"),
        ("push", ConfigError, "feed object"),
        ("rstp://camera", UnknownNameError, "rtsp"),
        ("csi://0", MissingDependencyError, "nvarguscamerasrc"),
    ],
)
def test_what_no_waiting_would_mend_is_an_error_at_once(uri: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        open_live(uri, wanted())


def test_settings_that_do_not_go_with_a_live_source_are_refused() -> None:
    with pytest.raises(ConfigError, match="'latest'"):
        open_live(NOBODY, CaptureSettings(width=32, height=32))
    with pytest.raises(ConfigError, match="avdec_h265"):
        open_live(Feed("h264"), CaptureSettings(width=32, height=32, policy="latest", decoder="avdec_h265"))
    with pytest.raises(ConfigError, match="open_live"):
        open_source("rtsp://camera/stream", CaptureSettings(width=32, height=32))


def test_what_is_live_is_told_by_its_name() -> None:
    assert [is_live(name) for name in ("rtsp://camera", "v4l2://0", "csi://0", Feed("h264"))] == [True] * 4
    assert [is_live(name) for name in ("clip.mp4", Path("clip.mp4"), "test://ball")] == [False] * 3


def test_a_source_that_is_dropped_ends_its_thread(server: RtspServer) -> None:
    with open_live(server.uri, wanted()) as source:
        next_frame(source)
    before, sources = held(), [open_live(server.uri, wanted()) for _ in range(3)]
    assert len(supervisors()) == len(sources)
    del source, sources
    until(lambda: held() <= before)
    assert not supervisors()


@pytest.mark.native
def test_sources_opened_and_closed_leave_no_threads_files_or_memory(server: RtspServer) -> None:
    settings = wanted(pre_roll_s=1.0, history=HistorySettings(width=32, height=18, keep_s=1.0))

    def cycle() -> None:
        with open_live(server.uri, settings) as source:
            next_frame(source, 10.0)
        with open_live(NOBODY, settings) as source:
            until(lambda: source.state == "backoff")

    for _ in range(8):
        cycle()
    before, before_kb = held(), resident_kb()
    for _ in range(16):
        cycle()
    until(lambda: held()[0] <= before[0] and held()[1] <= before[1] + 2)
    assert resident_kb() - before_kb < 8 * 1024


def test_a_closed_source_stays_closed_and_readable(server: RtspServer) -> None:
    source = open_live(server.uri, wanted(pre_roll_s=1.0))
    next_frame(source)
    source.close()
    source.close()
    assert (source.state, source.latest()) == ("ended", None)
    assert source.changes()[-1].state == "ended"
    assert source.stats.delivered == 1
    assert source.info is not None
    assert source.ring is not None


def test_ctrl_c_and_a_forgotten_close_end_the_process_at_once(server: RtspServer) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from edge_sdk.capture import CaptureSettings, open_live\n"
        f"forgotten = open_live({server.uri!r}, CaptureSettings(width=160, height=96, policy='latest'))\n"
        f"with open_live({server.uri!r}, CaptureSettings(width=160, height=96, policy='latest')) as source:\n"
        "    while source.state != 'ended':\n"
        "        if source.latest() and source.stats.delivered == 5: print('reading', flush=True)\n"
        "        time.sleep(0.01)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"reading\n"
        begun_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert time.monotonic() - begun_s < 3.0
    assert said.endswith(b"KeyboardInterrupt\n")
    assert b"CRITICAL" not in said


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (partial(CaptureSettings, width=32, height=32, pixels="gray"), "pixels must be one of luma, rgb, found 'gray'"),
        (
            partial(CaptureSettings, width=32, height=32, policy="new"),
            "policy must be one of every, latest, found 'new'",
        ),
        (partial(LiveSettings, protocol="quic"), "protocol must be one of tcp, udp, found 'quic'"),
        (partial(LiveSettings, jitter_ms=-5), "jitter_ms must be 0 or more, found -5"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()
