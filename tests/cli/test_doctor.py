"""The doctor: every check answers in any environment, and says what would mend it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import edge_sdk
from edge_sdk import __version__
from edge_sdk.bundle import write_bundle
from edge_sdk.cli.doctor import Check, examine
from edge_sdk.hardware.cuda import find_cuda_device

EXTRAS = "gi mujoco matplotlib onnx onnxruntime safetensors torch"


def found(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.fixture(scope="module")
def here() -> dict[str, Check]:
    return found(examine())


def test_what_is_here_is_found(here: dict[str, Check]) -> None:
    assert sys.executable in here["python"].found
    assert here["edge-sdk"].found == f"{__version__}, {Path(edge_sdk.__file__).parent}"
    assert here["runtime null"].status == here["runtime ort"].status == "ok"
    assert "onnxruntime" in here["runtime ort"].found
    assert "GStreamer" in here["capture"].found
    assert here["decoder h264"].status == "ok"


def test_cuda_and_tensorrt_are_there_or_say_what_to_do(here: dict[str, Check]) -> None:
    for name in ("CUDA device", "TensorRT", "TensorRT-RTX"):
        check = here[name]
        assert (check.status, bool(check.fix)) in (("ok", False), ("note", True)), check
    if not Path("/dev/nvidia0").exists() and not Path("/dev/nvmap").exists():
        assert "no CUDA driver" in here["CUDA device"].found
        assert "install NVIDIA's driver" in here["CUDA device"].fix
        assert here["runtime trt"].status == here["runtime rtx"].status == "note"


def test_a_driver_that_is_too_old_for_the_bindings_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board of doubles, but the real CUDA bindings: without a driver they refuse as they do with an old one."""
    pytest.importorskip("tensorrt_rtx", reason="its enumerations stand for TensorRT's")
    pytest.importorskip("cuda.bindings", reason="extra [tensorrt] is not installed")
    if find_cuda_device() is not None:
        pytest.skip("there is a CUDA device here")
    from host_board import ORIN_NX, Board

    old = msgspec.structs.replace(ORIN_NX, driver="12.6")
    Board(monkeypatch, old)
    monkeypatch.setattr("edge_sdk.runtimes.cuda_errors.find_cuda_device", lambda: old)
    check = found(examine())["runtime trt"]
    assert check.status == "note"
    assert "cudaErrorInsufficientDriver (35); the driver is for CUDA 12.6" in check.found
    assert check.fix.startswith("pip install 'cuda-bindings<12.9'")


def test_where_live_video_is_decoded_is_said_with_the_reason(here: dict[str, Check]) -> None:
    """Better elements than the one that is taken are named, each with why not."""
    better = {
        "live h264": ["nvv4l2decoder", "nvh264dec", "vah264dec", "avdec_h264", "openh264dec"],
        "live h265": ["nvv4l2decoder", "nvh265dec", "vah265dec", "avdec_h265", "libde265dec"],
        "live mjpeg": ["nvv4l2decoder", "vajpegdec", "jpegdec", "avdec_mjpeg"],
        "live encoder": ["nvv4l2h264enc", "nvh264enc", "vah264enc", "openh264enc"],
    }
    for name, elements in better.items():
        taken, reason = here[name].found.split(" ", 1)
        assert here[name].status == "ok"
        assert reason.startswith("on ")
        assert set(re.findall(r"\w+", reason)) & set(elements) == set(elements[: elements.index(taken)])


def test_every_finding_says_something(here: dict[str, Check]) -> None:
    for check in here.values():
        assert check.found
        assert "the check failed" not in check.found


def test_a_bundle_is_looked_at(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", name="toy", version="7", graphs={}, files={"a.txt": b"a"})
    check = found(examine(tmp_path / "b"))["bundle"]
    assert check.status == "ok"
    assert check.found.startswith("toy 7, 1 files")
    (tmp_path / "b" / "a.txt").write_bytes(b"b")
    check = found(examine(tmp_path / "b"))["bundle"]
    assert check.status == "missing"
    assert "a.txt" in check.found
    assert check.fix


BARE = f"""
import importlib.metadata, sys

class Bare:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS.split()} or name == "edge_sdk._native":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Bare())
real = importlib.metadata.version

def version(name):
    if name in {EXTRAS.split()}:
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

importlib.metadata.version = version
import msgspec
from edge_sdk.cli.doctor import examine
from pathlib import Path
print(msgspec.json.encode(examine(Path("nowhere"))).decode())
"""


def test_a_bare_environment_gets_commands_instead_of_a_crash() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", BARE], capture_output=True, text=True, check=True)
    checks = found(msgspec.convert(json.loads(done.stdout), list[Check]))
    for name, fix in {
        "runtime ort": "pip install 'onnxruntime>=1.23'",
        "capture": "pip install 'PyGObject>=3.42,<3.52'",
        "native extension": "wheel again",
        "bundle": "--bundle",
    }.items():
        assert checks[name].status == "missing", checks[name]
        assert fix in checks[name].fix
    for name, fix in {"timeline picture": "'matplotlib", "scene rendering": "'mujoco", "export": "'torch"}.items():
        assert checks[name].status == "note"
        assert fix in checks[name].fix
    assert checks["runtime null"].status == "ok"
    assert "the check failed" not in done.stdout


def test_a_gstreamer_without_plugins_names_the_packages(tmp_path: Path) -> None:
    code = "import msgspec\nfrom edge_sdk.cli.doctor import examine\nprint(msgspec.json.encode(examine()).decode())"
    bare = {"GST_PLUGIN_SYSTEM_PATH_1_0": str(tmp_path), "GST_REGISTRY": str(tmp_path / "registry")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | bare
    )
    checks = found(msgspec.convert(json.loads(done.stdout), list[Check]))
    assert checks["capture"].status == "ok"
    assert checks["decoder h264"].status == "missing"
    assert checks["decoder vp9"].status == "note"
    assert "avdec_h264: not installed" in checks["decoder h264"].found
    assert "apt-get install" in checks["decoder h264"].fix
    assert checks["live h264"].status == "missing"
    assert "avdec_h264, openh264dec not installed" in checks["live h264"].found
    for name in ("live h265", "live mjpeg", "live encoder"):
        assert checks[name].status == "note"
        assert checks[name].fix.startswith("sudo apt-get install -y gstreamer1.0-")


def test_a_package_that_fails_in_its_own_way_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise OSError('illegal instruction')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom edge_sdk.cli.doctor import examine\nprint(examine())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "illegal instruction" in done.stdout
