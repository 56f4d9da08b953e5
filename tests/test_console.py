"""What people see on a terminal."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk.console import Progress, bar, duration, exit_codes, parse_size
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


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30)); "


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
            f"-c: /nowhere/cameras: {os.strerror(errno.ENOENT)}; check the path and its permissions\n",
        ),
        (
            f"raise OSError({errno.ENOSPC}, 'No space left', 'out.json')",
            3,
            "-c: out.json is not written: No space left; free some disk space, or choose another folder\n",
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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its address space")
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("bytes(16 << 30)", "memory ran out; close other programs, add memory or swap, or take a smaller model"),
        ("import numpy; numpy.ones(1 << 31)", "memory ran out (Unable to allocate 16.0 GiB for an array"),
        ("import mmap; mmap.mmap(-1, 16 << 30)", "memory ran out ([Errno 12] Cannot allocate memory); close"),
    ],
)
def test_memory_that_runs_out_is_told_in_a_line(body: str, told: str) -> None:
    done = script(LIMITED + body)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"-c: {told}")
    assert len(done.stderr.splitlines()) == 1


def test_so_is_what_torch_cannot_allocate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sizes that no machine has."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(SystemExit) as left, exit_codes("tool"):
        torch.ones(1 << 46)
    told = capsys.readouterr().err
    assert left.value.code == 3
    assert re.fullmatch(r"tool: memory ran out \(.* \d{15} bytes\); close other programs, .*smaller model\n", told)
    words = f"unable to mmap 4000000000 bytes from file <{tmp_path}/model>: Cannot allocate memory (12)"
    with pytest.raises(SystemExit) as left, exit_codes("tool"):
        raise RuntimeError(words)
    assert left.value.code == 3
    assert capsys.readouterr().err.startswith(f"tool: memory ran out ({words}); close other programs")


def test_a_gpu_that_is_full_is_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """The errors are torch's own classes, raised by hand: no machine without a GPU has them."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for error, detail in (
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of 8 GiB."),
            "CUDA out of memory. Tried to allocate 2.00 GiB",
        ),
        (RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"), "CUDA error: out of memory"),
    ):
        with pytest.raises(SystemExit) as left, exit_codes("tool"):
            raise error
        assert left.value.code == 3
        assert capsys.readouterr().err == (
            f"tool: the GPU's memory ran out ({detail}); close other programs, take a smaller model, or compute on "
            "the CPU (--device cpu)\n"
        )


def test_a_package_of_an_extra_that_is_missing_is_named_with_what_to_run() -> None:
    done = script("import sys; sys.modules['mujoco'] = None; import mujoco")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("-c: this needs the package 'mujoco', which is not installed; run: pip install ")


@pytest.mark.parametrize(
    "body",
    [
        "import no_such_module",
        "import edge_sdk; open(edge_sdk.__file__ + '.gone')",
        "raise OSError('odd')",
        "raise RuntimeError('odd')",
    ],
)
def test_a_mistake_of_the_program_shows_where_it_is(body: str) -> None:
    done = script(body)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
