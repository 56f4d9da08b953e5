"""Addresses that are slightly wrong: none is taken for a file's name, and no text shows what it holds of a password."""

from __future__ import annotations

import copy
from pathlib import Path

import msgspec
import pytest

from edge_sdk.capture import CaptureSettings, LiveSettings, is_live, open_live, open_source
from edge_sdk.capture.live_pipelines import LivePlan
from edge_sdk.capture.platforms import Features
from edge_sdk.capture.uri import FileSource, RtspSource, parse_source, shown
from edge_sdk.cli.explain import read_subject
from edge_sdk.errors import ConfigError, EdgeError

SECRETS = ("Xq7", "zW9")
CAMERA = RtspSource(location="rtsp://camera/live", user="Xq7", password="zW9")
SIZE = CaptureSettings(width=80, height=48)

WRONG = [
    "rtsp//Xq7:zW9@camera/live",
    "rtsp/Xq7:zW9@camera/live",
    "rtsp;//Xq7:zW9@camera/live",
    "rtsp ://Xq7:zW9@camera/live",
    "rtsp:\\\\Xq7:zW9@camera/live",
    "<rtsp://Xq7:zW9@camera/live>",
    "url=rtsp://Xq7:zW9@camera/live",
    "\u00ef\u00bb\u00bfrtsp://Xq7:zW9@camera/live",
    "://Xq7:zW9@camera/live",
    "//Xq7:zW9@camera/live",
    "Xq7:zW9@camera",
    "Xq7:zW9@camera/live\0",
    "rtsp//camera/live?user=Xq7&password=zW9",
    "file://Xq7:zW9@camera/live",
    "file://Xq7:zW9@camera",
    "file:///Xq7:zW9@camera/live%00",
    "v4l2://Xq7:zW9@camera/live",
    "v4l2:///Xq7:zW9@camera?width=0",
    "v4l2:///dev/video0?Xq7:zW9@camera=1",
    "v4l2:///dev/video0?width=Xq7:zW9@camera",
    "v4l2:///dev/video0?format=Xq7:zW9@camera",
    "csi://Xq7:zW9@camera",
    "test://Xq7:zW9@camera",
    "test://ball?rate=Xq7:zW9@camera",
    "http://Xq7:zW9@camera/live",
]


@pytest.mark.parametrize("text", WRONG)
def test_it_is_refused_in_one_sentence_without_a_password(text: str) -> None:
    for opened in (parse_source, is_live, lambda name: open_source(name, SIZE)):
        with pytest.raises(ConfigError) as caught:
            opened(text)
        said = str(caught.value)
        assert not any(secret in said for secret in SECRETS)
        assert "\n" not in said


@pytest.mark.parametrize(
    "around", [" {}", "{}\n", "\t {} \r\n", '"{}"', "'{}'", "\ufeff{}", '\ufeff "{}', "“{}”", "\u00a0{}"]
)
def test_what_was_copied_with_an_address_is_no_part_of_it(around: str) -> None:
    assert parse_source(around.format("rtsp://Xq7:zW9@camera/live")) == CAMERA


def test_so_it_is_with_a_file_unless_it_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_source(' "clip.mp4"\n') == FileSource(path="clip.mp4")
    Path(' "clip.mp4"').touch()
    assert parse_source(' "clip.mp4"') == FileSource(path=' "clip.mp4"')
    with pytest.raises(ConfigError, match="expected a path or URI"):
        parse_source(" \ufeff ")


@pytest.mark.parametrize("name", ["a@b.mp4", "rtsp.mp4", "test-1.mp4", "file:1.mp4", "user@host/a.mp4", "test/a.mp4"])
def test_a_file_may_be_called_like_an_address(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).touch()
    for text in (name, str(tmp_path / name)):
        assert parse_source(text) == FileSource(path=text)


def test_a_file_that_is_not_there_hides_what_may_be_a_password() -> None:
    with pytest.raises(EdgeError, match=r"\*\*\*@camera/live: no such file") as caught:
        open_source("file:////Xq7:zW9@camera/live", SIZE)
    assert not any(secret in str(caught.value) for secret in SECRETS)


def test_a_source_and_all_that_holds_it_are_written_without_the_password() -> None:
    source = parse_source("rtsp://Xq7:zW9@camera/live?token=Xq7zW9")
    plan = LivePlan(
        source=source,  # type: ignore[arg-type]
        settings=CaptureSettings(width=80, height=48, policy="latest", live=LiveSettings()),
        features=Features(),
        scaler="videoconvertscale",
    )
    for value in (source, plan, [plan], msgspec.structs.replace(plan), copy.copy(source)):
        for text in (repr(value), str(value), f"{value}"):
            assert "rtsp://camera/live?token=***" in text
            assert not any(secret in text for secret in SECRETS)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("rtsp://u:p@h/a@b?token=1&channel=2", "rtsp://***@b?token=***&channel=2"),
        ("u:p@h", "***@h"),
        ("clip.mp4", "clip.mp4"),
        ("rtsp//h/x?pwd=1", "rtsp//h/x?pwd=***"),
    ],
)
def test_what_is_shown_of_a_name(text: str, what: str) -> None:
    assert shown(text) == what
    assert shown(what) == what


@pytest.mark.parametrize("name", ["rtsp//Xq7:zW9@camera/event.json", " rtsp://Xq7:zW9@camera/events.jsonl"])
def test_an_event_s_file_that_is_an_address_is_not_printed(name: str) -> None:
    with pytest.raises(ConfigError, match="expected a file with an event as JSON") as caught:
        read_subject(name)
    assert not any(secret in str(caught.value) for secret in SECRETS)


def test_an_address_with_a_blank_before_it_is_watched_and_shown_without_its_password() -> None:
    with open_live(" rtsp://Xq7:zW9@127.0.0.1:9/live", msgspec.structs.replace(SIZE, policy="latest")) as source:
        assert source.uri == "rtsp://127.0.0.1:9/live"
