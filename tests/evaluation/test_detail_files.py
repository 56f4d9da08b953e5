"""Footage whose files' names or contents are hostile: nothing but the file itself is read, and only its own written."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_sdk.errors import SourceError
from edge_sdk.evaluation.detail import decode_footage, encode_footage, luma_of

NASTY = [
    "a b'\"!#%20 ü 事故.mp4",
    'x" num-buffers="0.mp4',
    'x" ! filesink location="stolen',
    "-n=1 ! fakesink.mp4",
    "back\\slash.mp4",
]
HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}/part\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" minBufferTime="PT1S" '
    'mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period duration="PT1S">'
    '<AdaptationSet mimeType="video/mp4" codecs="avc1.42c00d"><Representation id="1" bandwidth="1000" width="64" '
    'height="64"><SegmentList duration="1"><Initialization sourceURL="{0}/part"/><SegmentURL media="{0}/part"/>'
    "</SegmentList></Representation></AdaptationSet></Period></MPD>"
)


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """A web server on this machine: its `url`, and the paths that were `asked` of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        """Has nothing; every request is answered with an error."""

        def log_request(self, *_: object) -> None:
            asked.append(self.path)

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield SimpleNamespace(url=f"http://127.0.0.1:{web.server_port}", asked=asked)
        web.shutdown()
        thread.join()


@pytest.mark.parametrize("name", NASTY)
def test_a_name_is_a_name_and_no_part_of_a_pipeline(kit: SimpleNamespace, tmp_path: Path, name: str) -> None:
    scene = kit.scene(6)
    plain, nasty = tmp_path / "plain.mp4", tmp_path / "in" / name
    nasty.parent.mkdir()
    expected = luma_of(decode_footage(kit.write_clip(plain, scene), kit.detail), kit.detail)
    nasty.write_bytes(plain.read_bytes())
    np.testing.assert_array_equal(luma_of(decode_footage(nasty, kit.detail), kit.detail), expected)
    written = tmp_path / "out" / name
    encode_footage(kit.pictures(scene), written, kit.detail)
    np.testing.assert_array_equal(luma_of(decode_footage(written, kit.detail), kit.detail), expected)
    assert [path.name for path in (*nasty.parent.iterdir(), *written.parent.iterdir())] == [name, name]


def test_a_relative_path_is_of_this_process_s_folder(
    kit: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kit.write_clip(Path("a.mp4"), kit.scene(3))
    assert len(decode_footage(Path("a.mp4"), kit.detail)) == 3


@pytest.mark.parametrize("playlist", [HLS, DASH])
def test_a_playlist_that_is_called_a_video_fetches_nothing(
    kit: SimpleNamespace, server: SimpleNamespace, tmp_path: Path, playlist: str
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text(playlist.format(server.url))
    with pytest.raises(SourceError, match=r"clip\.mp4 cannot be brought to the common form"):
        decode_footage(path, kit.detail)
    assert server.asked == []
    # GStreamer left to itself does fetch: the playlists are good ones.
    words = ["gst-launch-1.0", "-q", "filesrc", f"location={path}", "!", "decodebin", "!", "fakesink"]
    subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert "/part" in server.asked
