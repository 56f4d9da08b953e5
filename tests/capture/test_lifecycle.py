"""Sources end, are left early, dropped and interrupted; what they held is given back each time."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from memory_use import resident_mb

from edge_sdk.capture import CaptureSettings, gst, open_source
from edge_sdk.capture.gst.binding import GLib, Gst
from edge_sdk.capture.gst.launch import branch, halt, launch
from edge_sdk.capture.gst.player import play
from edge_sdk.capture.gst.samples import mapped
from edge_sdk.capture.settings import SourceInfo
from edge_sdk.capture.source import STALL_TIMEOUT_S, Source
from edge_sdk.errors import SourceError

Make = Callable[[str], Path]
Studio = Any  # its class is in conftest.py, which pytest loads under a name of its own

SIZE = CaptureSettings(width=160, height=96)
ENDLESS = "test://ball?duration=3600&width=320&height=192"


def held() -> tuple[int, int]:
    """Open files and threads of this process."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir())), len(list(Path("/proc/self/task").iterdir()))


def settle(before: tuple[int, int], spare: int = 2) -> None:
    """Threads of a pipeline's pool end a moment after it does."""
    deadline_s = time.monotonic() + 3.0
    while time.monotonic() < deadline_s:
        files, threads = held()
        if files <= before[0] and threads <= before[1] + spare:
            return
        time.sleep(0.05)
    raise AssertionError(f"before {before}, now {held()} (open files, threads)")


def test_a_source_at_its_end_stays_ended_and_readable(counted_clip: Make) -> None:
    source = open_source(str(counted_clip("h264.mp4")), CaptureSettings(width=160, height=96, rate_hz=10.0))
    before = held()
    count = sum(1 for _ in source)
    assert held()[1] < before[1], "the pipeline's threads end with the file"
    assert next(source, None) is None
    assert list(source) == []
    source.close()
    source.close()
    stats = source.stats
    assert (stats.decoded, stats.delivered) == (30, count)
    assert source.info.codec == "h264"


def test_leaving_in_the_middle_closes(counted_clip: Make) -> None:
    with open_source(str(counted_clip("h264.mp4")), SIZE) as source:
        for frame in source:
            if frame.sequence == 3:
                break
    assert next(source, None) is None
    assert source.stats.delivered == 4


def test_an_error_in_the_body_closes(counted_clip: Make) -> None:
    before = held()
    with pytest.raises(ZeroDivisionError), open_source(str(counted_clip("h264.mp4")), SIZE) as source:
        next(source).time_s / 0
    settle(before)


def test_a_source_that_is_dropped_closes_itself() -> None:
    open_source(ENDLESS, SIZE).close()
    before = held()
    for _ in range(3):
        next(open_source(ENDLESS, SIZE))
    settle(before)


def test_many_sources_leave_no_files_threads_or_memory(counted_clip: Make, tmp_path: Path) -> None:
    path = counted_clip("h264.mp4")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(path.read_bytes()[:3000])

    def cycle() -> None:
        with open_source(str(path), CaptureSettings(width=160, height=96, rate_hz=10.0)) as source:
            next(source)
        with pytest.raises(SourceError):
            open_source(str(broken), SIZE)

    for _ in range(5):
        cycle()
    before, before_mb = held(), resident_mb()
    for _ in range(30):
        cycle()
    settle(before)
    assert resident_mb() - before_mb < 30


def test_frames_are_freed_one_by_one() -> None:
    settings = CaptureSettings(width=640, height=480)
    with open_source("test://ball?duration=10&width=640&height=480", settings) as source:
        for _ in range(20):
            next(source)
        before_mb = resident_mb()
        count = sum(1 for _ in source)
    assert count == 280  # 0.3 MB each: 86 MB if they stayed mapped
    assert resident_mb() - before_mb < 30


def test_a_buffer_is_unmapped_when_reading_it_fails() -> None:
    def read_badly() -> None:
        with mapped(gst.Gst.Buffer.new_wrapped(b"\x07" * 2**20)) as data:
            data[0] / 0

    before_mb = resident_mb()
    for _ in range(100):
        with pytest.raises(ZeroDivisionError):
            read_badly()
    assert resident_mb() - before_mb < 30


def test_errors_on_the_way_up_and_down_leave_nothing_playing() -> None:
    """A bin that waits for its first picture fails; GStreamer then refuses to take the pipeline down, but once."""
    pipeline = launch("fakesrc is-live=true datarate=100 ! fakesink sync=false async=false", None)
    pipeline.set_state(Gst.State.PLAYING)
    waiting = branch("identity name=broken ! appsink sync=false")
    broken = waiting.get_by_name("broken")
    pipeline.add(waiting)
    waiting.sync_state_with_parent()

    def fail_again(_bus: Gst.Bus, message: Gst.Message) -> Gst.BusSyncReply:
        if message.type == Gst.MessageType.STATE_CHANGED and message.src == broken:
            pipeline.get_bus().set_sync_handler(None)
            fail()
        return Gst.BusSyncReply.PASS

    def fail() -> None:
        broken.post_message(Gst.Message.new_error(broken, GLib.Error("broken"), ""))

    fail()
    pipeline.get_bus().set_sync_handler(fail_again)
    halt(pipeline)
    assert [each.get_state(0).state for each in (pipeline, *pipeline.children)] == [Gst.State.NULL] * 4


def test_a_frame_outlives_its_source() -> None:
    with open_source("test://white?duration=1", SIZE) as source:
        frame = next(source)
    gc.collect()
    assert frame.pixels[48].min() == 255
    frame.pixels[:] = 3
    assert frame.pixels.max() == 3


def test_a_slow_consumer_loses_nothing(studio: Studio, counted_clip: Make) -> None:
    with open_source(str(counted_clip("h264.mp4")), SIZE) as source:
        numbers = []
        for frame in source:
            time.sleep(0.02)
            numbers.append(studio.read(frame.pixels))
    assert numbers == list(range(30))


def test_two_sources_at_once_do_not_mix(studio: Studio, counted_clip: Make) -> None:
    with (
        open_source(str(counted_clip("h264.mp4")), SIZE) as one,
        open_source(str(counted_clip("vp9.webm")), SIZE) as two,
    ):
        pairs = [(studio.read(a.pixels), studio.read(b.pixels)) for a, b in zip(one, two, strict=True)]
    assert pairs == [(number, number) for number in range(30)]


def test_a_source_can_be_read_on_another_thread(counted_clip: Make) -> None:
    counts: list[int] = []

    def read() -> None:
        with open_source(str(counted_clip("h264.mp4")), SIZE) as source:
            counts.append(sum(1 for _ in source))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join(20)
    assert counts == [30]


def test_closing_while_another_thread_reads_ends_the_reading() -> None:
    wrong: list[BaseException] = []
    for _ in range(10):
        source = open_source(
            "test://ball?duration=3600&width=1280&height=720", CaptureSettings(width=640, height=360, rate_hz=10)
        )
        reading = threading.Event()

        def read(source: Source = source, reading: threading.Event = reading) -> None:
            try:
                for _ in source:
                    reading.set()
            except BaseException as error:
                wrong.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        assert reading.wait(20)
        source.close()
        thread.join(20)
        assert not thread.is_alive()
        stats = source.stats
        assert stats.warnings == ()
        assert stats.decoded >= stats.delivered >= 1
    assert wrong == []


def test_an_error_behind_a_queue_is_told_soon_and_as_it_is() -> None:
    text = (
        "videotestsrc num-buffers=100 ! video/x-raw,format=GRAY8,width=32,height=32,framerate=10/1 "
        "! identity name=decoder ! queue ! identity error-after=5 ! appsink name=frames sync=false"
    )
    player, since_s = play(text, None, 20.0), time.monotonic()
    info = SourceInfo(
        uri="test://broken",
        duration_s=None,
        start_time_s=0.0,
        width=32,
        height=32,
        rotation_deg=0,
        rate_hz=10.0,
        codec="raw",
        decoder="",
    )
    with Source(player, info, CaptureSettings(width=32, height=32), ()) as source:
        with pytest.raises(SourceError, match=r"test://broken: .*error.after|Failed after"):
            list(source)
        assert "reading was stopped" in source.stats.warnings[-1]
    assert time.monotonic() - since_s < STALL_TIMEOUT_S / 2


def test_ctrl_c_ends_a_reader_at_once() -> None:
    # A job in the background is started with SIGINT ignored, and hands that down.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from edge_sdk.capture import CaptureSettings, open_source\n"
        f"with open_source({ENDLESS!r}, CaptureSettings(width=160, height=96)) as source:\n"
        "    for frame in source:\n"
        "        if frame.sequence == 5: print('reading', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"reading\n"
        begun_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert time.monotonic() - begun_s < 3.0
    assert b"KeyboardInterrupt" in said
    assert b"GStreamer-CRITICAL" not in said
