"""Pictures whose coded size is beyond any camera's are refused before they are decoded."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.capture import CaptureSettings, Feed, LiveSource, open_live, open_source
from edge_sdk.capture.settings import MAX_CODED_SIDE
from edge_sdk.errors import SourceError

Studio = Any  # its class is in conftest.py, which pytest loads under a name of its own

SIZE = CaptureSettings(width=80, height=48)
LIVE = CaptureSettings(width=80, height=48, policy="latest")
ENCODED = {
    "h264.mp4": "x264enc speed-preset=ultrafast ! h264parse ! mp4mux",
    "h264.h264": "x264enc speed-preset=ultrafast ! h264parse ! video/x-h264,stream-format=byte-stream",
    "vp9.webm": "vp9enc deadline=1 cpu-used=8 ! webmmux",
    "mjpeg.mov": "jpegenc ! qtmux",
}
# What a process took at most, in MB, to say that it does not open the file. By `VmHWM`, as resource usage counts what
# its parent had before it.
REFUSING = """
import re, sys
from pathlib import Path
from edge_sdk.capture import CaptureSettings, open_source
try:
    open_source(sys.argv[1], CaptureSettings(width=80, height=48))
except Exception as error:
    print(error)
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1000)
"""


def claiming(data: bytes, side: int, number: int = 0) -> bytes:
    """`data`, in which the JPEG of that number claims to be square: ITU-T T.81 B.2.2, the frame header."""
    place = -1
    for _ in range(number + 1):
        place = data.index(b"\xff\xc0\x00\x11\x08", place + 1)
    return data[: place + 5] + side.to_bytes(2, "big") * 2 + data[place + 9 :]


def jpeg(studio: Studio) -> bytes:
    text = "videotestsrc num-buffers=1 ! video/x-raw,format=I420,width=16,height=16 ! jpegenc"
    return bytes(studio.launch("small.jpg", text).read_bytes())


def test_a_small_file_that_claims_a_huge_picture_costs_nothing(studio: Studio, tmp_path: Path) -> None:
    path = tmp_path / "bomb.jpg"
    path.write_bytes(claiming(jpeg(studio), 30_000))
    assert path.stat().st_size < 1000
    ended = subprocess.run(
        [sys.executable, "-c", REFUSING, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    told, peak_mb = ended.stdout.splitlines()
    assert told == (
        f"{path}: expected a video file, but its pictures are 30000 x 30000, above 8192 x 8192; scale them down, or "
        "correct the file or camera that states this size"
    )
    assert int(peak_mb) < 300  # one picture of that size is 1,350 MB


@pytest.mark.parametrize("kind", ENCODED)
@pytest.mark.parametrize(
    ("width", "height"), [(MAX_CODED_SIDE, 64), (MAX_CODED_SIDE + 16, 64), (64, MAX_CODED_SIDE + 16)]
)
def test_the_limit_is_for_either_side_and_every_codec(studio: Studio, kind: str, width: int, height: int) -> None:
    text = f"videotestsrc num-buffers=2 ! video/x-raw,format=I420,width={width},height={height}"
    path = studio.launch(f"{width}-{height}-{kind}", f"{text} ! {ENCODED[kind]}")
    if max(width, height) <= MAX_CODED_SIDE:
        with open_source(str(path), SIZE) as source:
            assert (source.info.width, source.info.height, len(list(source))) == (width, height, 2)
        return
    with pytest.raises(
        SourceError, match=rf"but its pictures are {width} x {height}, above 8192 x 8192; scale"
    ) as caught:
        open_source(str(path), SIZE)
    assert "dec" not in str(caught.value)  # no other decoder was tried


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_container_that_names_a_smaller_size_is_not_believed(studio: Studio, tmp_path: Path, codec: str) -> None:
    """ISO/IEC 14496-12, 12.1.3: a visual sample entry has its width and height 24 bytes behind its type."""
    entry = {"h264": b"avc1", "h265": b"hvc1"}[codec]
    # With B-frames x265enc gives a clip of so few pictures senseless decoding times.
    encoder = f"{codec.replace('h', 'x')}enc speed-preset=ultrafast tune=zerolatency ! {codec}parse ! mp4mux"
    for width, refused in ((640, False), (MAX_CODED_SIDE + 16, True)):
        text = f"videotestsrc num-buffers=2 ! video/x-raw,format=I420,width={width},height=64 ! {encoder}"
        data = studio.launch(f"{codec}-{width}.mp4", text).read_bytes()
        place = data.index(entry, data.index(b"stsd")) + 28
        assert data[place : place + 4] == width.to_bytes(2, "big") + (64).to_bytes(2, "big")
        path = tmp_path / f"{width}.mp4"
        path.write_bytes(data[:place] + (160).to_bytes(2, "big") + (96).to_bytes(2, "big") + data[place + 4 :])
        if refused:
            with pytest.raises(SourceError, match=rf"its pictures are {width} x 64, above 8192 x 8192"):
                open_source(str(path), SIZE)
        else:
            with open_source(str(path), SIZE) as source:
                assert (source.info.width, source.info.height, len(list(source))) == (width, 64, 2)


def test_a_file_that_becomes_too_large_gives_the_pictures_before(studio: Studio, tmp_path: Path) -> None:
    whole = studio.encode("growing.mkv", [studio.counted(n) for n in range(11)], [n / 10 for n in range(11)],
                          studio.chains["mjpeg.mkv"])  # fmt: skip
    path = tmp_path / "growing.mkv"
    path.write_bytes(claiming(whole.read_bytes(), 30_000, 5))
    with open_source(str(path), SIZE) as source:
        assert [frame.sequence for frame in source] == list(range(5))
        assert any("its pictures are 30000 x 30000, above 8192 x 8192" in told for told in source.stats.warnings)


@pytest.fixture
def watched() -> Any:
    feed = Feed("mjpeg")
    with open_live(feed, LIVE) as source:
        yield feed, source


def pushed_until(feed: Feed, data: bytes, done: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10.0
    while not done():
        assert time.monotonic() < deadline_s
        feed.push(data)
        time.sleep(0.03)


def told(source: LiveSource) -> str:
    return "; ".join(change.reason for change in source.changes() if change.state == "backoff")


def test_a_live_source_is_refused_and_watched_again_when_it_is_well(
    studio: Studio, watched: tuple[Feed, LiveSource]
) -> None:
    feed, source = watched
    pushed_until(feed, claiming(jpeg(studio), 30_000), lambda: source.state == "backoff")
    assert "its pictures are 30000 x 30000, above 8192 x 8192" in told(source)
    assert source.stats.decoded == 0
    pushed_until(feed, jpeg(studio), lambda: source.state == "live")


def test_a_live_source_that_becomes_too_large_is_refused_then(studio: Studio, watched: tuple[Feed, LiveSource]) -> None:
    feed, source = watched
    pushed_until(feed, jpeg(studio), lambda: source.state == "live")
    decoded = source.stats.decoded
    assert decoded > 0
    pushed_until(feed, claiming(jpeg(studio), 30_000), lambda: source.state == "backoff")
    assert "its pictures are 30000 x 30000, above 8192 x 8192" in told(source)
