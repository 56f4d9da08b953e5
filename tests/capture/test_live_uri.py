"""Names of live sources, and that no text of ours shows a password."""

from __future__ import annotations

import random
from urllib.parse import quote

import pytest

from edge_sdk.capture.uri import CsiSource, RtspSource, V4l2Source, parse_source, redact
from edge_sdk.errors import ConfigError, UnknownNameError

# Two halves of a password that no other part of a test's text holds.
HALVES = ("Xq7", "zW9")
# Each may stand in a password that somebody did not encode.
NASTY = [*"@:/?#&=%[]{}|\\^`~;,.!$*'()+-_<>", "//", "@@", "://", "%40", "%2F", "pass=", "rtsp://", "é", "密"]


@pytest.mark.parametrize(
    ("text", "location", "user", "password"),
    [
        ("rtsp://camera/live", "rtsp://camera/live", "", ""),
        ("RTSP://camera", "rtsp://camera", "", ""),
        ("rtsps://10.0.0.5:322/a/b", "rtsps://10.0.0.5:322/a/b", "", ""),
        ("rtsp://admin@camera/1", "rtsp://camera/1", "admin", ""),
        ("rtsp://admin:pw@camera:554/1?a=2&b=c%20d#x", "rtsp://camera:554/1?a=2&b=c%20d#x", "admin", "pw"),
        ("rtsp://us%40er:p%3Aa%2Fs%25@camera/1", "rtsp://camera/1", "us@er", "p:a/s%"),
        ("rtsp://admin:p@ss:word@camera/1", "rtsp://camera/1", "admin", "p@ss:word"),
        ("rtsp://admin:p#ss@camera/1", "rtsp://camera/1", "admin", "p#ss"),
        ("rtsp://u:p@[2001:db8::1]:8554/x", "rtsp://[2001:db8::1]:8554/x", "u", "p"),
        ("rtsp://[fe80::1%25eth0]/x", "rtsp://[fe80::1%25eth0]/x", "", ""),
        ("rtsp://camera/live@1", "rtsp://camera/live@1", "", ""),
    ],
)  # fmt: skip
def test_credentials_are_split_off_and_the_rest_stays(text: str, location: str, user: str, password: str) -> None:
    assert parse_source(text) == RtspSource(location=location, user=user, password=password)


def test_any_user_and_password_survive_when_they_are_encoded() -> None:
    dice = random.Random(3)
    for _ in range(500):
        user, password = ("".join(dice.choices([*"abc ", *NASTY], k=dice.randint(1, 12))) for _ in range(2))
        source = parse_source(f"rtsp://{quote(user, safe='')}:{quote(password, safe='')}@camera:8554/x?y=@z")
        assert source == RtspSource(location="rtsp://camera:8554/x?y=@z", user=user, password=password)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rtsp://", "host is missing"),
        ("rtsp:///live", "host is missing"),
        ("rtsp://admin:Xq7zW9@/live", "host is missing"),
        ("rtsp://:554/live", "expected HOST or HOST:PORT"),
        ("rtsp://camera:port/live", "expected HOST or HOST:PORT"),
        ("rtsp://camera:0/live", "expected HOST or HOST:PORT"),
        ("rtsp://camera:70000/live", "expected HOST or HOST:PORT"),
        ("rtsp://2001:db8::1/live", r"IPv6 as \[::1\]:554"),
        ("rtsp://admin:Xq7/zW9@camera/live", "write / as %2F"),
        ("rtsp://admin:Xq7?zW9@camera/live", "write / as %2F"),
        ("rtsp://admin:Xq7 zW9@camera/live", "a space as %20"),
        ("rtsp://camera/li\r\nve", "control characters"),
        ("rtsp://admin:Xq7zW9@camera/\0", "expected a path or URI"),
        ("rtsp:/admin:Xq7zW9@camera/live", "must be followed by //"),
        ("rtsp:camera", "must be followed by //"),
        ("push", "hand it to edge_sdk.open"),
        ("push://feed", "hand it to edge_sdk.open"),
        ("v4l2://", "expected v4l2:///dev/video0 or v4l2://0"),
        ("v4l2://video0", "expected v4l2:///dev/video0 or v4l2://0"),
        ("v4l2://0?width=0", "width must be 16..16384"),
        ("v4l2://0?width=640.5", "width must be a whole number"),
        ("v4l2://0?rate=fast", "rate must be a number"),
        ("csi://front", "expected the number of a sensor"),
        ("csi://0?height=99999", "height must be 16..16384"),
    ],
)
def test_what_names_no_live_source_is_one_clear_error_without_a_password(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_source(text)
    assert not any(half in str(caught.value) for half in HALVES)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("v4l2://0?fps=30", "format, height, rate, width"),
        ("v4l2://0?format=yuyv", "h264, h265, mjpeg, raw"),
        ("csi://0?format=raw", "height, rate, width"),
    ],
)
def test_an_unknown_option_is_answered_with_the_known_ones(text: str, known: str) -> None:
    with pytest.raises(UnknownNameError, match=f"known: {known}"):
        parse_source(text)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("v4l2://0", V4l2Source(device="/dev/video0")),
        ("v4l2:///dev/video2", V4l2Source(device="/dev/video2")),
        ("v4l2:///dev/v4l/by-id/usb%20cam%3F", V4l2Source(device="/dev/v4l/by-id/usb cam?")),
        (
            "v4l2://1?width=1280&height=720&rate=29.97&format=mjpeg",
            V4l2Source(device="/dev/video1", width=1280, height=720, rate_hz=29.97, format="mjpeg"),
        ),
        ("csi://", CsiSource()),
        ("csi://1?width=1280&height=720&rate=60", CsiSource(sensor=1, width=1280, height=720, rate_hz=60.0)),
    ],
)
def test_cameras_on_this_machine(text: str, source: V4l2Source | CsiSource) -> None:
    assert parse_source(text) == source
    assert parse_source(source.uri) == source


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://camera:554/live?channel=1&subtype=0", "rtsp://camera:554/live?channel=1&subtype=0"),
        ("rtsp://camera/live@1", "rtsp://camera/live@1"),
        ("rtsp://[::1]:554/live@1", "rtsp://[::1]:554/live@1"),
        ("rtsp://u:p@camera:554/live", "rtsp://***@camera:554/live"),
        ("rtsp://h/user=admin_password=tlJw_x_channel=1.sdp", "rtsp://h/user=***_password=***_channel=1.sdp"),
        ("rtsp://h/user=a&password=&channel=1", "rtsp://h/user=***&password=&channel=1"),
        ("rtsp://h/x?api-key=ab/cd&Token=9&keyframe=1", "rtsp://h/x?api-key=***&Token=***&keyframe=1"),
        ('no route to "rtsp://h/x?pwd=1" now', 'no route to "rtsp://h/x?pwd=***" now'),
        ("rtsp://a:b@h1/x failed, trying http://c:d@h2/y next", "rtsp://***@h1/x failed, trying http://***@h2/y next"),
        ("file:///data/a@b:c.mp4 and a@b", "file:///data/a@b:c.mp4 and a@b"),
        ("v4l2:///dev/cam@1", "v4l2:///dev/cam@1"),
        ("no URL at all: a:b@c", "no URL at all: a:b@c"),
        ("", ""),
    ],
)
def test_redaction_hides_secrets_and_keeps_what_tells_sources_apart(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize("nasty", NASTY)
@pytest.mark.parametrize(
    "text",
    [
        "rtsp://admin:{}@camera/live",
        "rtsp://:{}@camera:554/live?x=1",
        "rtsp://{0}:{0}@[2001:db8::1]:554/live",
        "http://{}:x@camera",
        "Could not open rtsp://admin:{}@camera/live (404), see rtsp://other/x",
        'message "rtsps://admin:{}@camera/a@b" of source',
        "admin:rtsp://admin:{}@camera,rtsp://b:{}@c/",
        "two\nrtsp://admin:{}@camera\nlines rtsp://b:{}@c/",
    ],
)
def test_no_password_is_shown_whatever_is_in_it(text: str, nasty: str) -> None:
    password = f"{HALVES[0]}{nasty}{HALVES[1]}"
    shown = redact(text.format(password, password))
    assert not any(half in shown for half in HALVES)
    assert "://" in shown


@pytest.mark.parametrize(
    "key",
    ["password", "PassWd", "pwd", "user", "usr", "username", "token", "access_token", "apikey", "api-key", "auth",
     "authorization", "client_secret", "p%61ss", "u", "sig"],
)  # fmt: skip
@pytest.mark.parametrize("nasty", ["", "/", "?", "=", "==", "%26", "+", ":", "#"])
def test_no_secret_of_a_query_is_shown(key: str, nasty: str) -> None:
    for start in ("rtsp://camera/live?a=1&", "rtsp://u:p@camera/live?", "rtsp://camera/", "rtsp://camera/live;"):
        shown = redact(f"{start}{key}={HALVES[0]}{nasty}{HALVES[1]}&channel=2 is gone")
        assert not any(half in shown for half in HALVES)
        assert shown.endswith(f"{key}=***&channel=2 is gone")


def test_a_password_with_a_space_in_it_is_hidden_too() -> None:
    assert redact("cannot open rtsp://admin:Xq7 zW9@camera/live") == "cannot open rtsp://***@camera/live"


def test_a_source_shows_itself_without_its_secrets() -> None:
    source = parse_source("rtsp://admin:Xq7@camera:554/live?token=zW9&channel=1")
    assert isinstance(source, RtspSource)
    assert source.uri == "rtsp://camera:554/live?token=***&channel=1"
    assert source.location == "rtsp://camera:554/live?token=zW9&channel=1"
