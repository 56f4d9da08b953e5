"""Source names: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.capture.uri import FileSource, PatternSource, parse_source
from edge_sdk.errors import ConfigError, UnknownNameError


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("clip.mp4", "clip.mp4"),
        ("/data/a b.mp4", "/data/a b.mp4"),
        ("/data/100%25.mp4", "/data/100%25.mp4"),
        ("a:b.mp4", "a:b.mp4"),
        ("file:///data/a%20b.mp4", "/data/a b.mp4"),
        ("file:///data/caf%C3%A9%23.mp4", "/data/café#.mp4"),
        ("FILE://localhost/data/x.mp4", "/data/x.mp4"),
    ],
)
def test_a_path_is_taken_as_it_stands_and_a_file_uri_is_decoded(text: str, path: str) -> None:
    assert parse_source(text) == FileSource(path=path)


@pytest.mark.parametrize("name", ["plain.mp4", "a b'\"!#%41.mp4", "ä\udcff.mp4"])
def test_the_uri_of_a_file_names_the_same_file_again(name: str) -> None:
    source = FileSource(path=str(Path("/data") / name))
    assert source.uri.isascii()
    assert parse_source(source.uri) == source


def test_a_test_pattern_has_defaults_and_options() -> None:
    assert parse_source("test://") == PatternSource()
    source = parse_source("test://smpte?duration=2.5&width=322&height=180&rate=25")
    assert source == PatternSource(pattern="smpte", duration_s=2.5, width=322, height=180, rate_hz=25.0)
    assert isinstance(source, PatternSource)
    assert source.frames == 62
    assert parse_source(source.uri) == source


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://host/x.mp4", "unknown source scheme 'http'; known: csi, file, rtsp, rtsps, test, v4l2"),
        ("test://boll", "unknown test pattern 'boll'; known: .*ball"),
        ("test://ball?speed=2", "unknown option of test:// 'speed'; known: duration, height, rate, width"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(text: str, said: str) -> None:
    with pytest.raises(UnknownNameError, match=said):
        parse_source(text)


@pytest.mark.parametrize(
    "text",
    ["", "a\0b", "file://", "file://host/x.mp4", "file://x.mp4", "file:///a%00b", "test://ball?width=0",
     "test://ball?duration=long", "test://ball?rate=nan", "test://ball?duration="],
)  # fmt: skip
def test_text_that_names_nothing_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_source(text)
