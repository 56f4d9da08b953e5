"""Live sources on a real RTSP server: what they show, when they say it was taken, and what is kept of them."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from watched_events import event

from edge_sdk.benchmarks.live import stamp
from edge_sdk.benchmarks.live.results import resident_kb
from edge_sdk.benchmarks.live.server import RtspServer, Stream
from edge_sdk.benchmarks.live.watched import Sight, Watched, watch
from edge_sdk.capture import HistorySettings, LiveSettings
from edge_sdk.errors import ConfigError
from edge_sdk.events import CrashTimeline
from edge_sdk.types import Estimate
from edge_sdk.unit import Unit

GOP_S = 1.0
PRE_ROLL_S = 3.0
HISTORY = HistorySettings(width=364, height=196, keep_s=3.0)
LOCKED = Stream(
    width=640, height=360, rate_hz=15.0, kbit_s=800, gop_s=GOP_S, audio=True, user="us@er", password="pa:ss/wo?rd"
)


def stream(codec: str) -> Stream:
    return Stream(codec=codec, width=640, height=360, rate_hz=15.0, kbit_s=800, gop_s=GOP_S)


def drawn_s(sight: Sight) -> float:
    assert sight.drawn_s is not None, "the picture shows no stamp"
    return sight.drawn_s


def check_frames(source: Watched) -> None:
    """The stamps are readable, move on, and were drawn before the frame is said to have been captured."""
    settled = source.sights[3:]
    assert len(settled) >= 10
    drawn = [drawn_s(each) for each in settled]
    assert np.all(np.diff(drawn) > 0)
    for each, when_s in zip(settled, drawn, strict=True):
        assert 0 <= each.frame.captured_s - when_s < 0.5
        assert each.frame.captured_s <= each.at_s
    assert {each.frame.pixels.shape for each in settled} == {(192, 320)}
    times = [each.frame.time_s for each in settled]
    assert np.allclose(np.diff(times), np.diff([each.frame.captured_s for each in settled]), atol=0.2)


@pytest.mark.native
@pytest.mark.parametrize("codec", ["h264", "h265", "mjpeg"])
def test_each_codec_gives_fresh_frames(codec: str) -> None:
    with RtspServer(stream(codec)) as server, watch(server.uri) as source:
        source.wait_live(10.0)
        source.wait(1.5)
        check_frames(source)
        info = source.source.info
        assert info is not None
        assert (info.codec, info.width, info.height) == (codec, 640, 360)
        assert source.states == ["connecting", "live"]
        # the brightest and the darkest blocks of a stamp, in full range
        bright, dark = np.percentile(source.sights[-1].frame.pixels[10:90], [95, 5])
        expected = [(level - 16) * 255 / 219 for level in (stamp.BRIGHT, stamp.DARK)]
        assert np.allclose([bright, dark], [stamp.BRIGHT, stamp.DARK] if codec == "mjpeg" else expected, atol=12)


@pytest.mark.native
def test_udp_with_a_password_and_sound() -> None:
    with RtspServer(LOCKED) as server, watch(server.uri, LiveSettings(protocol="udp")) as source:
        source.wait_live(10.0)
        source.wait(1.5)
        check_frames(source)
        assert "@" not in source.source.uri


@pytest.fixture(scope="module")
def kept() -> Iterator[tuple[RtspServer, Watched]]:
    """A source that keeps units and frames, after it has run for longer than it keeps them."""
    live = LiveSettings(pre_roll_s=PRE_ROLL_S, history=HISTORY)
    with RtspServer(stream("h264")) as server, watch(server.uri, live) as source:
        source.wait_live(10.0)
        source.wait(PRE_ROLL_S + GOP_S + 3.0)
        yield server, source


def pictures_of(units: list[bytes], folder: Path) -> NDArray[np.uint8]:
    """The units decoded by FFmpeg, which must find nothing to complain of."""
    path = folder / "clip.h264"
    path.write_bytes(b"".join(units))
    command = ["ffmpeg", "-v", "warning", "-xerror", "-err_detect", "explode", "-f", "h264", "-i", str(path)]
    done = subprocess.run(
        [*command, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"],
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, 360, 640)


@pytest.mark.native
def test_the_ring_holds_the_pre_roll_and_decodes_from_its_first_unit(
    kept: tuple[RtspServer, Watched], tmp_path: Path
) -> None:
    ring = kept[1].source.ring
    assert ring is not None
    clip = ring.clip(time.monotonic(), PRE_ROLL_S)
    assert PRE_ROLL_S <= clip.delivered_s <= PRE_ROLL_S + GOP_S + 0.5
    assert clip.gaps == ()
    assert clip.units[0].key
    assert 0 < ring.memory_mb < 2.0
    pictures = pictures_of([unit.data for unit in clip.units], tmp_path)
    assert len(pictures) == len(clip.units) >= PRE_ROLL_S * 15
    for picture, unit in zip(pictures, clip.units, strict=True):
        ticks = stamp.read(picture)
        assert ticks is not None
        assert stamp.age_ms(ticks, round(unit.captured_s * 1e9)) < 500


@pytest.mark.native
def test_a_unit_gives_its_ring_out(tmp_path: Path) -> None:
    """By the stamps that the camera draws, the first unit is as old as was asked, a GOP more at most."""
    with RtspServer(stream("h264")) as server, Unit(server.uri, live=LiveSettings(pre_roll_s=PRE_ROLL_S)) as unit:
        late = threading.Timer(30.0, unit.stop)
        late.start()
        step = next(step for step in unit.steps() if step.frame.time_s > PRE_ROLL_S + GOP_S + 0.5)
        late.cancel()
        at = Estimate(t=step.frame.time_s, lo=step.frame.time_s, hi=step.frame.time_s)
        seen = msgspec.structs.replace(
            event("a", "closed"), source=unit.sources[0].uri, timeline=CrashTimeline(crash_start=at)
        )
        clip = unit.clip(seen, PRE_ROLL_S)
    pictures = pictures_of([each.data for each in clip.units], tmp_path)
    ticks = stamp.read(pictures[0])
    assert ticks is not None
    age_s = stamp.age_ms(ticks, round(step.frame.captured_s * 1e9)) / 1e3
    assert PRE_ROLL_S <= age_s <= PRE_ROLL_S + GOP_S + 0.5
    with Unit("rtsp://127.0.0.1:1/nothing") as bare:
        unseen = msgspec.structs.replace(seen, source=bare.sources[0].uri)
        with pytest.raises(ConfigError, match=r"no units are kept; open it with LiveSettings\(pre_roll_s="):
            bare.clip(unseen, PRE_ROLL_S)


@pytest.mark.native
def test_the_history_keeps_the_last_frames_in_fixed_memory(kept: tuple[RtspServer, Watched]) -> None:
    source, history = kept[1], kept[1].source.history
    assert history is not None
    window, now_s = history.window(0.0, 1000), time.monotonic()
    assert window.pixels.shape == (30, 196, 364, 3)
    assert window.captured_s[-1] > now_s - 1.0
    assert window.captured_s[-1] - window.captured_s[0] == pytest.approx(2.9, abs=0.2)
    for picture, captured_s in zip(window.pixels, window.captured_s, strict=True):
        ticks = stamp.read(picture.mean(axis=2).astype(np.uint8))
        assert ticks is not None
        assert stamp.age_ms(ticks, round(captured_s * 1e9)) < 500
    source.sights.clear()
    before_kb = resident_kb()
    source.wait(2.0)
    assert history.next >= window.next + 15
    assert history.memory_mb == pytest.approx(30 * 196 * 364 * 3 / 1e6, rel=0.01)
    source.sights.clear()
    assert resident_kb() - before_kb < 4 * 1024


def test_the_senders_clock_is_told_with_its_uncertainty(kept: tuple[RtspServer, Watched]) -> None:
    """Server and source share this machine's clock, so the truth is known to a millisecond."""
    source = kept[1]
    source.wait(1.0)
    offset_s = time.time() - time.monotonic()
    told = [each for each in source.sights[-10:] if each.frame.capture and each.frame.capture.source == "sender"]
    assert len(told) == 10
    for each in told:
        capture = each.frame.capture
        assert capture is not None
        assert capture.utc_s is not None
        assert capture.uncertainty_s is not None
        assert capture.uncertainty_s < 1.0
        assert abs(capture.utc_s - drawn_s(each) - offset_s) <= capture.uncertainty_s


def test_a_source_closes_at_once_whatever_the_camera_does() -> None:
    with RtspServer(stream("h264")) as server:
        with watch(server.uri) as source:
            source.wait_live(10.0)
            server.stop()
            begin_s = time.monotonic()
        assert time.monotonic() - begin_s < 2.0
        assert source.source.state == "ended"
        server.go_on()
