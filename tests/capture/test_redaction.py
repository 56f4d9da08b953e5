"""Texts that repeat what somebody typed: secrets are hidden, and what only looks like one is left."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edge_sdk.capture.redaction import redact_typed


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp:/bob:pw@cam/s: expected a text file", "rtsp:/***@cam/s: expected a text file"),
        ("/data/rtsp:/bob:pw@cam/s: not a folder", "/data/rtsp:/***@cam/s: not a folder"),
        ("No such command 'rtsp://bob:pw@cam/s'.", "No such command 'rtsp://***@cam/s'."),
        ("extra argument(s) (rtsp://bob:pw@cam/s)", "extra argument(s) (rtsp://***@cam/s)"),
        ("No such option: --rtsp://bob:pw@cam", "No such option: --rtsp://***@cam"),
        (
            "rtsp://a:pw@cam1/s failed, then rtsp:/b:pw@cam2/s and https:/c:pw@cam3",
            "rtsp://***@cam1/s failed, then rtsp:/***@cam2/s and https:/***@cam3",
        ),
        ("rtsp:/a:pw@[2001:db8::1]:554/s", "rtsp:/***@[2001:db8::1]:554/s"),
        ("rtsp:/bob@cam/s", "rtsp:/***@cam/s"),
        ("rtsp:bob:pw@cam/s", "rtsp:***@cam/s"),
        ("rtsp:\\\\bob:pw@cam\\s", "rtsp:***@cam\\s"),
        ("rtsp//bob:pw@cam/s", "***@cam/s"),
        ("'bob:pw@cam/s' is no file", "'***@cam/s' is no file"),
        ("rtsp:/cam/s?channel=1&password=pw", "rtsp:/cam/s?channel=1&password=***"),
    ],
)
def test_secrets_are_hidden_and_the_host_is_shown(text: str, shown: str) -> None:
    assert redact_typed(text) == shown
    assert redact_typed(shown) == shown


@pytest.mark.parametrize(
    "password", ["hun:ter2", "hun/ter2", "hun%2Fter2", "hun@ter2", "hun?ter2", "hun'ter2", "hun#ter2"]
)
@pytest.mark.parametrize("text", ["x rtsp:/bob:{}@cam/s y", "x 'rtsp://bob:{}@cam/s' y", "x bob:{}@cam/s y"])
def test_a_password_may_hold_anything(text: str, password: str) -> None:
    shown = redact_typed(text.format(password))
    assert "hun" not in shown
    assert "ter2" not in shown
    assert "***@cam/s" in shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "clip.mp4: no such file; check the path",
        "rtsp:/cam:554/s, rtsp://[::1]:554/live@1 and https://example.com/a?b=c",
        "write to bob@example.com, or to: <bob@example.com>, or mailto:bob@example.com",
        r"C:\Users\bob@work\clip.mp4 and 'C:/Users/bob@work/clip.mp4'",
        "file:/data/a:b@c.mp4, file:///data/a:b@c.mp4 and v4l2:/dev/a:b@c",
        "an address begins with its scheme, as in rtsp://user:password@camera/stream; check the name",
        "rtsp: must be followed by //, as in rtsp://camera/stream",
    ],
)
def test_what_holds_no_secret_is_left_as_it_is(text: str) -> None:
    assert redact_typed(text) == text


def test_a_text_that_can_hold_no_secret_loads_nothing() -> None:
    code = (
        "import sys; from edge_sdk.console import without_secrets as hide; assert hide('no') == 'no'; "
        "assert 'edge_sdk.capture' not in sys.modules; assert hide('rtsp:/b:pw@cam') == 'rtsp:/***@cam'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
