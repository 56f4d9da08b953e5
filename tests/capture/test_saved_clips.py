"""Clips written into files: read back by FFmpeg, cut off by full disks, by SIGKILL and by a disk that hangs."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pushing import encode, until
from saved_files import pictures_in, shown_s, silent_disk, small_disk

from edge_sdk.capture import CaptureSettings, muxing, open_source
from edge_sdk.capture.gst.binding import Gst
from edge_sdk.capture.patience import Patience
from edge_sdk.capture.player import EncodedUnit
from edge_sdk.errors import ConfigError, SourceError
from edge_sdk.feeders import CodedClip

NO_RATE = "openh264enc ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au"
HELPERS = f"{Path(__file__).parent}:{Path(__file__).parents[1]}"
FIRST_S = 1000.0
# A camera of a varying rate, with a gap of three seconds in the middle.
TIMES_S = FIRST_S + np.cumsum([0.0, *np.random.default_rng(5).choice([0.02, 0.0337, 0.1], 29), 3.0, *[1 / 30] * 19])
H264_B = (
    "x264enc bframes=2 b-adapt=false b-pyramid=false speed-preset=veryfast pass=quant quantizer=18 key-int-max=12"
    " threads=1 ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au"
)
FULL = """
import resource, sys
from pathlib import Path
sys.path[:0] = sys.argv[1].split(":")
from test_saved_clips import clip_of
clip = clip_of("mjpeg")
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
try:
    clip.save(sys.argv[2])
except OSError as error:
    print(type(error).__name__, error.strerror, error.filename, sep="|")
"""
MISSING = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from test_saved_clips import clip_of
from edge_sdk.capture.gst.binding import Gst
from edge_sdk.errors import EdgeError
clip, registry = clip_of("mjpeg"), Gst.Registry.get()
registry.remove_feature(registry.lookup_feature("matroskamux"))
try:
    clip.save(sys.argv[2])
except EdgeError as error:
    print(type(error).__name__, error, sep="|")
"""
# It says when it begins, and writes one long clip after the other.
ENDLESS = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from test_saved_clips import clip_of, whole
units = clip_of("h264").units
long = [unit._replace(captured_s=unit.captured_s + 10 * turn) for turn in range(30) for unit in units]
print("begun", flush=True)
for number in range(1000):
    whole(tuple(long), "h264").save(f"{sys.argv[2]}/{number}.mp4")
"""


def pictures(number: int, width: int = 320, height: int = 192) -> Iterator[NDArray[np.uint8]]:
    """Noise that no encoder makes small, with a bar that moves."""
    ground = np.random.default_rng(1).integers(40, 200, (height, width)).astype(np.uint8)
    for place in range(number):
        drawn = ground.copy()
        drawn[:, place * 8 % width : place * 8 % width + 40] = 220
        yield drawn


def clip_of(codec: str, times_s: NDArray[np.float64] = TIMES_S, chain: str = "") -> CodedClip:
    """The clip of a camera that took a picture at each of the times; about a picture in its middle."""
    made = encode(pictures(len(times_s)), codec, chain=chain)
    units = tuple(EncodedUnit(data, float(at_s), key) for (data, key), at_s in zip(made, times_s, strict=True))
    return whole(units, codec)


def whole(units: tuple[EncodedUnit, ...], codec: str) -> CodedClip:
    return CodedClip(
        units=units,
        at_s=FIRST_S + 1.0,
        asked_s=2.0,
        start_s=FIRST_S,
        end_s=max(unit.captured_s for unit in units),
        gaps=((TIMES_S[29], TIMES_S[30]),),
        codec=codec,
        zero_s=FIRST_S - 10.0,
    )


@pytest.mark.parametrize(
    ("codec", "suffix"), [("h264", ".mp4"), ("h264", ".mkv"), ("h265", ".mp4"), ("h265", ".mkv"), ("mjpeg", ".mkv")]
)
def test_a_file_has_every_unit_as_it_is_and_at_its_own_time(codec: str, suffix: str, tmp_path: Path) -> None:
    clip, path = clip_of(codec), tmp_path / "folder" / f"clip{suffix}"
    told = clip.save(path)
    assert list(path.parent.iterdir()) == [path]
    assert shown_s(path) == pytest.approx(TIMES_S - FIRST_S, abs=0.0006 if suffix == ".mkv" else 0.00002)
    bare = tmp_path / f"bare.{codec}"
    bare.write_bytes(b"".join(unit.data for unit in clip.units))
    assert pictures_in(path) == pictures_in(bare, {"h265": "hevc"}.get(codec, codec))
    assert told.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert told.uri == path.as_uri()
    assert (told.start_s, told.pre_s, told.asked_pre_s) == (10.0, 1.0, 2.0)
    assert told.post_s == pytest.approx(TIMES_S[-1] - FIRST_S - 1.0, abs=0.001)
    assert told.gaps_s[0] == pytest.approx((TIMES_S[29] - FIRST_S + 10, TIMES_S[30] - FIRST_S + 10), abs=0.001)


def test_the_sdk_reads_it_too(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    clip_of("h264").save(path)
    with open_source(str(path), CaptureSettings(width=320, height=192)) as source:
        assert [frame.time_s for frame in source] == pytest.approx(TIMES_S - FIRST_S, abs=0.001)


def test_pictures_that_are_reordered_keep_their_times(tmp_path: Path) -> None:
    """Units of an encoder with B-pictures come as they are decoded, and a camera tells when each is shown."""
    Gst.init(None)
    pipeline = Gst.parse_launch(f"appsrc name=in format=time ! {H264_B} ! appsink name=out sync=false")
    source, sink = pipeline.get_by_name("in"), pipeline.get_by_name("out")
    pipeline.set_state(Gst.State.PLAYING)
    for number, luma in enumerate(pictures(30)):
        caps = "video/x-raw,format=I420,width=320,height=192,framerate=30/1"
        source.set_property("caps", Gst.Caps.from_string(caps))
        buffer = Gst.Buffer.new_wrapped(luma.tobytes() + b"\x80" * (320 * 192 // 2))
        buffer.pts = number * Gst.SECOND // 30
        source.emit("push-buffer", buffer)
    source.emit("end-of-stream")
    units, first_ns = [], None
    while sample := sink.emit("try-pull-sample", 5 * Gst.SECOND):
        buffer = sample.get_buffer()
        first_ns = buffer.pts if first_ns is None else first_ns
        place = round((buffer.pts - first_ns) / Gst.SECOND * 30)
        data, key = buffer.extract_dup(0, buffer.get_size()), not buffer.has_flags(Gst.BufferFlags.DELTA_UNIT)
        units.append(EncodedUnit(data, float(TIMES_S[place]), key))
    pipeline.set_state(Gst.State.NULL)
    stamps = [unit.captured_s - FIRST_S for unit in units]
    assert stamps != sorted(stamps)
    path = tmp_path / "clip.mp4"
    whole(tuple(units), "h264").save(path)
    assert shown_s(path) == pytest.approx(stamps, abs=0.00002)
    assert len(pictures_in(path)) == 30


@pytest.mark.parametrize("count", [1, 2, 32])
def test_no_player_leaves_out_the_last_picture(count: int, tmp_path: Path) -> None:
    """Nor where the stream itself names no rate."""
    clip, path = clip_of("h264", chain=NO_RATE), tmp_path / "clip.mp4"
    whole(clip.units[:count], "h264").save(path)
    assert len(pictures_in(path)) == len(shown_s(path)) == count


def test_what_is_decoded_first_is_not_shown_before() -> None:
    order = [0, 3, 1, 2, 6, 4, 5]
    units = muxing.timed([EncodedUnit(b"", 10.0 + place, place == 0) for place in order])
    assert [unit.decoded_s for unit in units] == [0, 1, 2, 3, 4, 5, 6]
    assert [unit.shown_s for unit in units] == [place + 1 for place in order]
    assert muxing.timed([]) == []


def test_a_clip_ends_where_it_is_asked_to_with_all_that_its_end_needs() -> None:
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]
    units = tuple(EncodedUnit(b"", FIRST_S + place, place == 0) for place in order)
    clip = whole(units, "h264")
    cut = clip.until(FIRST_S + 4.5)
    assert cut.units == units[:6], "picture 4 is decoded from 6"
    assert cut.end_s == FIRST_S + 6
    assert clip.until(FIRST_S + 100) == clip
    assert (clip.until(0.0).units, clip.until(0.0).gaps) == ((), ())


def test_a_camera_that_changes_its_size_stays_one_file(tmp_path: Path) -> None:
    """The picture before the change is the muxer's price for it."""
    made = [*encode(pictures(20), "h264"), *encode(pictures(20, 480, 272), "h264")]
    units = tuple(EncodedUnit(data, FIRST_S + place / 20, key) for place, (data, key) in enumerate(made))
    path = tmp_path / "clip.mp4"
    whole(units, "h264").save(path)
    assert shown_s(path) == pytest.approx(np.arange(40) / 20, abs=0.00002)
    assert len(pictures_in(path)) >= 39


def test_what_cannot_be_a_file_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    jpegs, h264 = clip_of("mjpeg"), clip_of("h264")
    for clip, name, told in (
        (jpegs, "clip.mp4", r"expected a file name that ends in \.mkv for mjpeg, found 'clip\.mp4'; rename it"),
        (h264, "clip.avi", r"ends in \.mp4 or \.mkv for h264, found 'clip\.avi'"),
        (h264.until(0.0), "clip.mp4", "expected units to write, found a clip without any"),
    ):
        with pytest.raises(ConfigError, match=told):
            clip.save(tmp_path / name)
    mistaken = whole(jpegs.units, "h265")
    with pytest.raises(SourceError, match=r"clip\.mp4 was not written: expected whole units of one codec.*take a clip"):
        mistaken.save(tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_stood_there_stays_when_it_cannot_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    clip_of("h264").save(path)
    before = path.read_bytes()
    with pytest.raises(SourceError):
        whole(clip_of("mjpeg").units, "h264").save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def saved_elsewhere(program: str, *words: object) -> str:
    command = [sys.executable, "-c", program, HELPERS, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_file_that_may_not_grow_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    assert saved_elsewhere(FULL, path, 500_000) == f"OSError|File too large|{path}\n"
    assert list(tmp_path.iterdir()) == []
    assert saved_elsewhere(FULL, path) == ""
    assert path.stat().st_size > 1_000_000


def test_a_full_disk_is_one_error(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 800) as disk:
        with pytest.raises(OSError, match="No space left on device") as refused:
            clip_of("mjpeg").save(disk / "clip.mkv")
        assert refused.value.filename == str(disk / "clip.mkv")
        assert list(disk.iterdir()) == []


def half_files(folder: Path) -> list[Path]:
    return list(folder.glob(".*.tmp-*"))


def test_a_killed_writer_leaves_no_half_file_under_its_name(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDLESS, HELPERS, str(tmp_path)]
    complete = 30 * len(TIMES_S)
    for _ in range(20):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            until(lambda: half_files(tmp_path), 30.0)
            process.send_signal(signal.SIGKILL)
        if half_files(tmp_path):
            break
    assert half_files(tmp_path), "it was killed in the middle"
    for path in tmp_path.glob("[0-9]*.mp4"):
        assert len(shown_s(path)) == complete


def test_a_disk_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muxing, "_patience", Patience(0.5))
    with (
        silent_disk(tmp_path, monkeypatch),
        pytest.raises(SourceError, match=r"writing .*clip\.mkv took more than 0\.5 s"),
    ):
        clip_of("mjpeg").save(tmp_path / "clip.mkv")
    until(lambda: not any("writing" in thread.name for thread in threading.enumerate()))


def test_a_plugin_that_is_missing_is_one_error(tmp_path: Path) -> None:
    said = saved_elsewhere(MISSING, tmp_path / "clip.mkv")
    assert said.startswith("MissingDependencyError|GStreamer cannot build the pipeline: ")
    assert said.endswith("run: sudo apt-get install -y gstreamer1.0-plugins-good\n")
    assert list(tmp_path.iterdir()) == []
