"""What people see on a terminal."""

from __future__ import annotations

import pytest

from edge_sdk.console import Progress, bar, duration, parse_size
from edge_sdk.errors import ConfigError


def test_a_size_is_width_by_height() -> None:
    assert parse_size("320x192") == (320, 192)


@pytest.mark.parametrize("text", ["", "320", "320x", "x192", "320x192x3", "0x192", "-1x5", "axb"])
def test_any_other_text_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="320x192"):
        parse_size(text)


def test_a_bar_is_as_full_as_its_value() -> None:
    assert bar(0.0, 4) == "····"
    assert bar(0.5, 4) == "██··"
    assert bar(7.0, 4) == "████"


def test_durations_read_as_minutes_and_seconds() -> None:
    assert [duration(s) for s in (0.2, 75, 3600)] == ["0:00", "1:15", "60:00"]


def test_progress_counts_and_estimates_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("render") as progress:
        for done in range(1, 31):
            progress(done, 30)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert "left" in lines[0]
    assert lines[-1].startswith("render 30/30")


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("render", quiet=True) as progress:
        progress(1, 1)
    assert capsys.readouterr().err == ""
