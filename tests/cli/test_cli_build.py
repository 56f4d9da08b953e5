"""`edge-sdk build` as users start it, on a machine without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from asking_bundles import watching
from command_line import sdk

from edge_sdk.hardware.cuda import find_cuda_device


def build(*words: str, cache: Path) -> subprocess.CompletedProcess[str]:
    return sdk("build", *words, env={**os.environ, "XDG_CACHE_HOME": str(cache)})


def test_an_engine_lies_in_the_users_cache_and_is_not_built_twice(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx")
    words = ("--bundle", str(watching().folder), "--runtime", "rtx", "--target", "rtx-4090")
    first = build(*words, cache=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "student (1 of 1): needs about 2,200 MB" in first.stdout
    assert "built in" in first.stdout
    assert "not compared with the bundle" in first.stdout
    second = build(*words, "--json", cache=tmp_path)
    (engine,) = json.loads(second.stdout.splitlines()[-1])["engines"]
    assert engine["cached"] is True
    assert Path(engine["file"]).is_relative_to(tmp_path / "edge-sdk" / "engines")


@pytest.mark.skipif(find_cuda_device() is not None, reason="this machine has a GPU")
def test_tensorrt_without_itself_or_a_gpu_says_what_is_missing(tmp_path: Path) -> None:
    result = build(cache=tmp_path)
    assert result.returncode == 3
    assert "tensorrt" in result.stderr or "CUDA driver" in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_words_are_refused_before_anything_is_opened(tmp_path: Path) -> None:
    for words, expected in (
        (("--runtime", "ort"), "--runtime must be trt or rtx, found 'ort'"),
        (("--runtime", "rtx", "--target", "x86-cpu"), "x86-cpu has no GPU"),
        (("--runtime", "rtx", "--target", "toaster"), "unknown target 'toaster'; known: agx-orin-64gb"),
    ):
        if "x86-cpu" in words or "toaster" in words:
            pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx")
        result = build(*words, cache=tmp_path)
        assert result.returncode == 2, result.stderr
        assert expected in result.stderr
