"""What people see on a terminal."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

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


def script(body: str) -> subprocess.CompletedProcess[str]:
    """A program that leaves through `run_script`."""
    code = f"from edge_sdk.console import run_script\ndef main():\n    {body}\nrun_script(main)\n"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ("return 5", 5, ""),
        ("from edge_sdk.errors import BundleError; raise BundleError('spoilt')", 4, "-c: spoilt\n"),
        (
            "open('/nowhere/cameras')",
            2,
            f"-c: /nowhere/cameras: {os.strerror(errno.ENOENT)}; give a path that can be used\n",
        ),
        (
            f"raise OSError({errno.ENOSPC}, 'No space left', 'out.json')",
            3,
            "-c: out.json is not written: No space left; make room, or write elsewhere\n",
        ),
        (
            f"raise OSError({errno.ESTALE}, 'Stale file handle', '/share/clip.mp4')",
            3,
            "-c: /share/clip.mp4: Stale file handle; try again\n",
        ),
        ("raise KeyboardInterrupt", 130, ""),
    ],
)
def test_a_program_leaves_as_the_command_does(body: str, code: int, told: str) -> None:
    done = script(body)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", told)


def test_a_package_of_an_extra_that_is_missing_is_named_with_what_to_run() -> None:
    done = script("import sys; sys.modules['mujoco'] = None; import mujoco")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("-c: this needs the package 'mujoco', which is not installed; run: pip install ")


@pytest.mark.parametrize(
    "body", ["import no_such_module", "import edge_sdk; open(edge_sdk.__file__ + '.gone')", "raise OSError('odd')"]
)
def test_a_mistake_of_the_program_shows_where_it_is(body: str) -> None:
    done = script(body)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
