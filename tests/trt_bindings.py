"""TensorRT's real Python bindings, without TensorRT: what they offer, and which arguments each method takes.

The wheels of the bindings are small and carry every signature; the libraries that they need are not to be had here, and
are stood in for by empty ones with the nine functions that are missing. `EDGE_TRT_BINDINGS` is a folder with an
unpacked wheel per version (`FOLDER/10.3.0/tensorrt_bindings`); without it pip is asked once, into a cache folder for
each Python.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from edge_sdk.files import atomic_folder

RTX = "rtx"
VERSIONS = ("10.3.0", "10.16.1.11", "11.4.0.106", RTX)
_DISTRIBUTION, _PACKAGE = "tensorrt-cu12-bindings", "tensorrt_bindings"
_PIP_S = 15
_STUBS = """
void *createInferBuilder_INTERNAL(void) { return 0; }
void *createInferRefitter_INTERNAL(void) { return 0; }
void *createInferRuntime_INTERNAL(void) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void) { return 0; }
void *createNvOnnxParser_INTERNAL(void) { return 0; }
void *getBuilderPluginRegistry(void) { return 0; }
void *getNvOnnxParserVersion(void) { return 0; }
void *getPluginRegistry(void) { return 0; }
void *initLibNvInferPlugins(void) { return 0; }
"""
# Prints {path: signatures, None for what is no method} of everything down to the members of classes and enumerations.
_LIST = """
import importlib, json, sys
module, found = importlib.import_module(sys.argv[1]), {}

def walk(value, path, depth):
    for name in dir(value):
        if name.startswith("_") and name != "__init__":
            continue
        member = getattr(value, name)
        found[path + name] = (member.__doc__ or "") if callable(member) and not isinstance(member, type) else None
        if isinstance(member, type) and depth:
            walk(member, path + name + ".", depth - 1)

walk(module, "", 2)
print(json.dumps(found))
"""


class Signature(NamedTuple):
    """One way to call a method: parameter names without `self`, and how many of them have no default."""

    parameters: tuple[str, ...]
    needed: int

    def takes(self, positional: int, keywords: tuple[str, ...]) -> bool:
        """Whether it may be called so."""
        given = set(self.parameters[:positional]) | set(keywords)
        known = positional <= len(self.parameters) and set(keywords) <= set(self.parameters[positional:])
        return known and set(self.parameters[: self.needed]) <= given


Offer = dict[str, tuple[Signature, ...] | None]
"""By path in the module (`Runtime.deserialize_cuda_engine`): its signatures, None for what is no method."""


def offer(version: str) -> Offer:
    """What the bindings of `version` offer; skips the test where they cannot be had, saying why."""
    environment = dict(os.environ)
    module = "tensorrt_rtx"
    if version == RTX:
        pytest.importorskip(module)
    else:
        folder = _unpacked(version)
        environment["LD_LIBRARY_PATH"] = str(_stubs(folder, version))
        environment["PYTHONPATH"] = str(folder)
        module = _PACKAGE
    done = subprocess.run(
        [sys.executable, "-c", _LIST, module], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return {path: None if doc is None else signatures(path, doc) for path, doc in found.items()}


def signatures(path: str, doc: str) -> tuple[Signature, ...]:
    """The signatures that pybind11 writes at the head of a docstring, one line each."""
    name = path.rpartition(".")[2]
    lines = re.findall(rf"^(?:\d+\. )?{re.escape(name)}\((.*)\)(?: -> .*)?$", doc, re.MULTILINE)
    return tuple(_signature(line) for line in lines if not line.startswith("*args"))


def _signature(parameters: str) -> Signature:
    parts = [part for part in _split(parameters) if part and not part.startswith("self")]
    return Signature(tuple(part.partition(":")[0].strip() for part in parts), sum("=" not in part for part in parts))


def _split(text: str) -> list[str]:
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _unpacked(version: str) -> Path:
    given = os.environ.get("EDGE_TRT_BINDINGS")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = home / "edge-sdk" / "trt-bindings" / sys.implementation.cache_tag
    folder = (Path(given) if given else kept) / version
    if not folder.is_dir() and not given and (reason := _download(version, folder)):
        pytest.skip(reason)
    if not (folder / _PACKAGE).is_dir():
        pytest.skip(f"{folder} holds no {_PACKAGE}")
    return folder


@cache
def _download(version: str, folder: Path) -> str:
    """Unpack the wheel into `folder`; returns why not, empty when it is done. Asked once in a run of the tests."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--retries", "0", f"{_DISTRIBUTION}=={version}", "--dest"]
    try:
        with atomic_folder(folder) as stage:
            subprocess.run([*command, stage], check=True, capture_output=True, timeout=_PIP_S)
            (wheel,) = Path(stage).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(stage)
            wheel.unlink()
    except (subprocess.SubprocessError, OSError) as error:
        return f"no package index gives {_DISTRIBUTION} {version} for this Python ({type(error).__name__})"
    return ""


def _stubs(folder: Path, version: str) -> Path:
    """Libraries under the names that the bindings ask for, built once beside them."""
    place, major = folder / "stubs", version.partition(".")[0]
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here to make the libraries with")
    if not place.is_dir():
        with atomic_folder(place) as stage:
            source = Path(stage) / "stubs.c"
            source.write_text(_STUBS)
            for name in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
                library = f"lib{name}.so.{major}"
                made = Path(stage) / library
                subprocess.run([compiler, "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", made, source], check=True)
    return place
