"""The registry: runtimes open by name, and a missing package is one clear error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk.errors import UnknownNameError
from edge_sdk.registry import DEFAULT_RUNTIME, RUNTIMES, open_runtime, why_missing

OPEN_ORT = """
from edge_sdk.errors import MissingDependencyError
from edge_sdk.registry import open_runtime, why_missing
try:
    open_runtime("ort")
except MissingDependencyError as error:
    assert why_missing("ort") == str(error)
    print(error)
open_runtime("null")
"""


def opened_with(onnxruntime: str, folder: Path) -> str:
    """What a fresh interpreter prints when the package onnxruntime has this text."""
    (folder / "onnxruntime.py").write_text(onnxruntime)
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n{OPEN_ORT}"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", sorted(RUNTIMES))
def test_every_runtime_opens_under_its_name(name: str) -> None:
    reason = why_missing(name)
    if reason and name in ("rtx", "trt"):
        pytest.skip(reason)
    runtime = open_runtime(name)
    assert runtime.name == name
    assert runtime.describe()["runtime"] == name
    assert why_missing(name) is None


def test_the_default_is_one_of_them() -> None:
    assert DEFAULT_RUNTIME in RUNTIMES


def test_an_unknown_runtime() -> None:
    with pytest.raises(UnknownNameError, match="unknown runtime 'tensorflow'; known: null, ort, rtx, trt"):
        open_runtime("tensorflow")


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    absent = "raise ModuleNotFoundError(\"No module named 'onnxruntime'\", name='onnxruntime')"
    assert opened_with(absent, tmp_path) == (
        "runtime 'ort' needs the package 'onnxruntime', which is not installed; run: pip install 'onnxruntime>=1.23'"
    )


def test_a_broken_package_is_told_apart(tmp_path: Path) -> None:
    printed = opened_with("raise ImportError('libfoo.so.1: cannot open shared object file')", tmp_path)
    assert "does not load: libfoo.so.1" in printed
    assert "pip install --force-reinstall --no-deps 'onnxruntime>=1.23'" in printed
