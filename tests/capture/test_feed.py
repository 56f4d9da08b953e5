"""What a program pushes comes out as it was: pixels, times, order, and counts of what did not."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from pushing import CHAINS, HEIGHT, WIDTH, encode, next_frame, taken, until, wanted

from edge_sdk.capture import Feed, HistorySettings, health, open_live
from edge_sdk.capture.feed import is_key
from edge_sdk.errors import ConfigError, UnknownNameError
from edge_sdk.hardware import clock
from edge_sdk.types import Frame

Studio = Any  # its class is in conftest.py, which pytest loads under a name of its own
Encoded = Callable[[str], list[tuple[bytes, bool]]]

UNITS = 40


@pytest.fixture(scope="session")
def encoded(studio: Studio) -> Encoded:
    """Units of 40 pictures that show their number, and whether GStreamer takes each for a key unit; made once."""
    made: dict[str, list[tuple[bytes, bool]]] = {}

    def units(codec: str) -> list[tuple[bytes, bool]]:
        if codec not in made:
            made[codec] = list(encode(map(studio.counted, range(UNITS)), codec))
        return made[codec]

    return units


def test_rgb_comes_out_exactly_with_the_stamp_of_its_host() -> None:
    drawn = np.random.default_rng(1).integers(0, 256, (3, HEIGHT, WIDTH, 3), np.uint8)
    feed = Feed("rgb", width=WIDTH, height=HEIGHT, name="front")
    with open_live(feed, wanted("rgb")) as source:
        stamps, frames = [], []
        for picture in drawn:
            stamps.append(taken(feed, picture))
            frames.append(next_frame(source))
    for number, (frame, picture, stamp) in enumerate(zip(frames, drawn, stamps, strict=True)):
        np.testing.assert_array_equal(frame.pixels, picture)
        assert frame.captured_s == pytest.approx(stamp, abs=1e-6)
        assert frame.time_s == pytest.approx(stamp - stamps[0], abs=1e-6)
        assert (frame.sequence, frame.source, frame.restarted) == (number, "push://front", False)
        assert frame.capture is not None
        assert (frame.capture.source, frame.capture.monotonic_s) == ("host", frame.captured_s)


@pytest.mark.parametrize("kept", [True, False])
def test_the_time_of_day_is_told_where_a_time_service_keeps_this_clock(
    kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether one does is for the kernel to say, so its answer is put in its mouth here."""
    said = clock.Discipline(synchronised=kept, max_error_s=0.02, estimated_error_s=0.001)
    monkeypatch.setattr(clock, "discipline", lambda: said)
    feed = Feed("rgb", width=WIDTH, height=HEIGHT)
    with open_live(feed, wanted("rgb")) as source:
        taken(feed, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        capture = next_frame(source).capture
    offset_s = time.time() - time.monotonic()
    assert capture is not None
    assert capture.uncertainty_s is None, "how late a host stamps its pictures is not known"
    assert capture.utc_s == (pytest.approx(capture.monotonic_s + offset_s, abs=0.01) if kept else None)


@pytest.mark.parametrize("packed", [False, True])
def test_nv12_gives_its_own_luma_as_full_range(packed: bool) -> None:
    studio_luma = np.random.default_rng(2).integers(16, 236, (HEIGHT, WIDTH), np.uint8)
    picture = np.vstack([studio_luma, np.full((HEIGHT // 2, WIDTH), 90, np.uint8)])
    feed = Feed("nv12", width=WIDTH, height=HEIGHT)
    with open_live(feed, wanted()) as source:
        taken(feed, picture.tobytes() if packed else picture)
        pixels = next_frame(source).pixels
    expected = (studio_luma.astype(float) - 16) / 219 * 255
    assert np.abs(pixels - expected).max() <= 0.5


@pytest.mark.parametrize("codec", sorted(CHAINS))
def test_units_are_decoded_in_order_with_their_stamps(codec: str, encoded: Encoded, studio: Studio) -> None:
    units = encoded(codec)
    assert len(units) == UNITS
    feed = Feed(codec)
    with open_live(feed, wanted()) as source:
        stamps = [taken(feed, units[0][0])]
        seen = {0: next_frame(source)}
        for data, _ in units[1:]:
            stamps.append(taken(feed, data))
            frame = next_frame(source)
            seen[studio.read(frame.pixels)] = frame
        feed.end()
        until(lambda: source.state == "ended")
        info, stats = source.info, source.stats
    assert sorted(seen) == list(range(UNITS))
    for number, frame in seen.items():
        assert frame.captured_s == pytest.approx(stamps[number], abs=1e-6)
    assert info is not None
    assert (info.uri, info.codec, info.width, info.height) == ("push://push", codec, 320, 192)
    assert (stats.units, stats.decoded, stats.delivered, stats.reconnects) == (UNITS, UNITS, UNITS, 0)


def test_a_history_goes_forward_where_stamps_go_back(encoded: Encoded) -> None:
    feed, begun_s, later = Feed("h264"), time.monotonic() - 1.0, [0.0, 0.1, 0.2, 0.3, 0.4]
    units = iter(encoded("h264"))
    with open_live(feed, wanted(history=HistorySettings(width=32, height=18, rate_hz=30.0, keep_s=5.0))) as source:
        history = source.history
        assert history is not None
        for number, after_s in enumerate(later):
            for at_s in (after_s, after_s - 0.05) if number else (after_s,):
                data, stamp_s = next(units)[0], begun_s + at_s
                until(lambda data=data, stamp_s=stamp_s: feed.push(data, stamp_s))
                until(lambda count=number + 1: history.next >= count)
        until(lambda: source.stats.decoded == 2 * len(later) - 1)
        feed.end()
        until(lambda: source.state == "ended")
    np.testing.assert_allclose(history.since(0).captured_s - begun_s, later, atol=1e-6)


@pytest.mark.parametrize("codec", sorted(CHAINS))
def test_key_units_are_those_that_gstreamer_finds(codec: str, encoded: Encoded) -> None:
    units = encoded(codec)
    assert [is_key(codec, data) for data, _ in units] == [key for _, key in units]
    assert sum(key for _, key in units) == (UNITS if codec == "mjpeg" else UNITS // 10)


def test_a_stream_joined_in_its_middle_begins_with_the_next_key_unit(encoded: Encoded, studio: Studio) -> None:
    units = [data for data, _ in encoded("h264")]
    feed = Feed("h264")
    assert not feed.push(units[0]), "nobody takes it before the source is open"
    with open_live(feed, wanted()) as source:
        for _ in range(20):
            assert not feed.push(units[3])
            time.sleep(0.01)
        taken(feed, units[10])
        assert studio.read(next_frame(source).pixels) == 10
        assert feed.push(units[11])
        assert studio.read(next_frame(source).pixels) == 11
    assert feed.pushed - feed.dropped == 2


def test_the_last_picture_is_shown_before_the_end() -> None:
    feed = Feed("rgb", width=WIDTH, height=HEIGHT)
    with open_live(feed, wanted("rgb")) as source:
        taken(feed, np.full((HEIGHT, WIDTH, 3), 77, np.uint8))
        feed.end()
        until(lambda: source.state == "ended")
        assert next_frame(source).pixels.mean() == 77
        assert source.latest() is None
        assert [change.state for change in source.changes()] == ["connecting", "live", "ended"]
    with pytest.raises(ConfigError, match="after end"):
        feed.push(np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def test_a_feed_that_ended_before_it_was_opened_ends_its_source() -> None:
    feed = Feed("nv12", width=WIDTH, height=HEIGHT)
    feed.end()
    with open_live(feed, wanted()) as source:
        until(lambda: source.state == "ended")


def test_a_feed_feeds_one_source_at_a_time() -> None:
    feed = Feed("rgb", width=WIDTH, height=HEIGHT)
    with open_live(feed, wanted("rgb")), pytest.raises(ConfigError, match="feeds another source"):
        open_live(feed, wanted("rgb"))
    with open_live(feed, wanted("rgb")) as source:
        taken(feed, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        assert next_frame(source).pixels.max() == 0


@pytest.mark.native
def test_pushing_faster_than_pictures_are_scaled_never_waits() -> None:
    feed = Feed("nv12", width=3840, height=2160)
    picture = np.full((3240, 3840), 128, np.uint8)
    with open_live(feed, wanted()) as source:
        taken(feed, picture)
        begun_s = time.monotonic()
        for _ in range(60):
            feed.push(picture)
        assert time.monotonic() - begun_s < 60 * 0.05
        feed.end()
        until(lambda: source.state == "ended")
    assert feed.dropped <= feed.pushed - 1


class Queue:
    """An inlet whose room the test decides."""

    def __init__(self) -> None:
        self.room = True
        self.given: list[bytes] = []

    def full(self) -> bool:
        return not self.room

    def push(self, data: bytes, captured_s: float) -> None:
        self.given.append(data)

    def end(self) -> None:
        self.room = False


def test_a_full_queue_drops_units_up_to_the_next_key_and_counts_them(encoded: Encoded) -> None:
    units = [data for data, _ in encoded("h265")]
    feed, queue = Feed("h265"), Queue()
    feed.attach(queue)
    for number, data in enumerate(units[:25]):
        queue.room = number not in (3, 4, 10)
        feed.push(data)
    # 3 is lost and with it all up to the key unit 10; that one finds no room, so the next is 20
    assert queue.given == units[:3] + units[20:25]
    assert (feed.pushed, feed.dropped) == (25, 17)


def test_a_full_queue_drops_the_oldest_raw_frame_and_counts_it() -> None:
    feed, queue = Feed("rgb", width=2, height=1), Queue()
    feed.attach(queue)
    for number in range(5):
        queue.room = number < 3
        assert feed.push(bytes([number] * 6))
    assert [data[0] for data in queue.given] == [0, 1, 2, 3, 4]
    assert (feed.pushed, feed.dropped) == (5, 2)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"format": "nv12"}, "needs width and height"),
        ({"format": "nv12", "width": 321, "height": 190}, "even width and height"),
        ({"format": "rgb", "width": 0, "height": 190}, "needs width and height"),
        ({"format": "h264", "rate_hz": 0.0}, "rate_hz"),
        ({"format": "h264", "name": "a b"}, "name"),
    ],
)
def test_a_feed_that_cannot_be_is_refused(words: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Feed(**words)


def test_an_unknown_format_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="h264, h265, mjpeg, nv12, rgb"):
        Feed("vp9")


@pytest.mark.parametrize(
    ("kind", "data", "says"),
    [
        ("rgb", bytes(11), "takes 12 bytes"),
        ("rgb", np.zeros((2, 2, 3), np.float32), "float32"),
        ("nv12", np.zeros((2, 2), np.uint8), r"\(3, 2\)"),
        ("h264", b"\x00\x00\x00\x2a\x65\x88", "start code"),
        ("h265", b"", "start code"),
        ("mjpeg", b"\x00\x00\x00\x01\x67", "JPEG"),
    ],
)
def test_data_of_another_kind_is_refused(kind: str, data: Any, says: str) -> None:
    feed = Feed(kind, width=2, height=2)
    with pytest.raises(ConfigError, match=says):
        feed.push(data)
    assert (feed.pushed, feed.dropped) == (0, 0)


@pytest.mark.parametrize("stamp", [float("nan"), float("inf"), -1.0])
def test_a_stamp_that_is_no_time_is_refused(stamp: float) -> None:
    with pytest.raises(ConfigError, match=r"time\.monotonic"):
        Feed("rgb", width=2, height=2).push(bytes(12), stamp)


def test_stamps_of_another_clock_and_out_of_order_are_refused() -> None:
    feed = Feed("rgb", width=2, height=2)
    with pytest.raises(ConfigError, match=r"time\.monotonic"):
        feed.push(bytes(12), time.time())
    now_s = time.monotonic()
    feed.push(bytes(12), now_s)
    with pytest.raises(ConfigError, match="captured_s must be at least"):
        feed.push(bytes(12), now_s - 0.1)


class Clock(Queue):
    """An inlet that notes the stamps."""

    def __init__(self) -> None:
        super().__init__()
        self.stamps_s: list[float] = []

    def push(self, data: bytes, captured_s: float) -> None:
        self.stamps_s.append(captured_s)


def test_pictures_without_a_stamp_never_go_back() -> None:
    """Whatever was stamped before, and however many threads push."""
    feed, clock, jpeg = Feed("mjpeg"), Clock(), b"\xff\xd8" + bytes(8)
    feed.attach(clock)
    ahead_s = time.monotonic() + 0.3
    feed.push(jpeg, ahead_s)
    feed.push(jpeg)
    assert clock.stamps_s == [ahead_s, ahead_s]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: feed.push(jpeg), range(4000)))
    assert clock.stamps_s == sorted(clock.stamps_s)


def test_a_feed_that_was_silent_for_minutes_takes_pictures_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes are made of nothing here: an outage is old from its beginning, when cameras are left alone for 4 s."""
    monkeypatch.setattr(health, "YOUNG_OUTAGE_S", 0.0)
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    feed = Feed("rgb", width=WIDTH, height=HEIGHT)
    with open_live(feed, wanted("rgb", stall_timeout_s=0.3, connect_timeout_s=0.3)) as source:
        taken(feed, picture)
        next_frame(source)
        for _ in range(3):
            until(lambda: source.state == "connecting")
            until(lambda: source.state == "backoff")
        frames: list[Frame] = []

        def shown() -> bool:
            # One alone may be taken by a pipeline that is about to be taken down.
            feed.push(picture)
            frames.extend(filter(None, [source.latest()]))
            return bool(frames)

        until(shown, 2.0)
        assert frames[0].restarted
