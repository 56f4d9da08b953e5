"""What this machine can run, why anything is missing, and the command that fixes it.

The doctor must work even where almost nothing is installed. Each check therefore opens what it examines by name, inside
the check: a failure is a finding, not a crash.
"""

from __future__ import annotations

import ctypes.util
import platform
import sys
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

from edge_sdk import __version__
from edge_sdk.bundle import default_bundle, open_bundle
from edge_sdk.capture.codecs import CODECS
from edge_sdk.capture.platforms import LIVE_CODECS, choose, choose_encoder
from edge_sdk.engine.tensorrt_library import PACKAGES, Flavour, open_tensorrt
from edge_sdk.errors import EdgeError
from edge_sdk.hardware import CPU, identify, observe, target_of, whole_draw
from edge_sdk.hardware.cgroup import memory_room_mb
from edge_sdk.hardware.cuda import cuda_device
from edge_sdk.packages import pip_install
from edge_sdk.registry import DEFAULT_RUNTIME, RUNTIMES, open_room, open_runtime
from edge_sdk.types import Value

Status = Literal["ok", "missing", "note"]

_CAPTURE = "edge_sdk.capture.gst"
_NATIVE = "edge_sdk._native"
_NEEDED_CODEC = "h264"
_AGAIN = "install this SDK's wheel again, or in a checkout: make setup"


class Check(Value, frozen=True, kw_only=True):
    """One finding.

    `status` is "missing" if the main job cannot run without it, and "note" if it is optional and absent, or only
    reported. `fix` is a command or one sentence, empty if there is nothing to do.
    """

    name: str
    status: Status
    found: str
    fix: str = ""


class _Finding(NamedTuple):
    status: Status
    found: str
    fix: str = ""


def examine(bundle: Path | None = None) -> list[Check]:
    """Run every check, in the order in which the components are needed. Never raises.

    `bundle` is the folder of the bundle to examine, by default the demo bundle.
    """
    capture = _examined("capture", _capture)
    codecs = [codec.name for codec in CODECS] if capture.status == "ok" else []
    live = [name for name in codecs if name in LIVE_CODECS]
    return [
        _examined("python", _python),
        _examined("edge-sdk", _package),
        _examined("native extension", _native),
        *(_examined(f"runtime {name}", partial(_runtime, name)) for name in RUNTIMES),
        _examined("CUDA device", _cuda),
        _examined("TensorRT", partial(_tensorrt, "trt")),
        _examined("TensorRT-RTX", partial(_tensorrt, "rtx")),
        capture,
        *(_examined(f"decoder {name}", partial(_decoder, name)) for name in codecs),
        *(_examined(f"live {name}", partial(_live, name)) for name in live),
        *([_examined("live encoder", _live_encoder)] if live else []),
        _examined("bundle", partial(_bundle, bundle or default_bundle())),
        _examined("timeline picture", partial(_optional, "matplotlib", "plot", "the picture of `demo`")),
        _examined("scene rendering", _rendering),
        _examined("export", partial(_optional, "torch", "export", "training and exporting models")),
        _examined("machine", _machine),
        _examined("conditions", _conditions),
    ]


def _examined(name: str, check: Callable[[], _Finding]) -> Check:
    try:
        status, found, fix = check()
    except EdgeError as error:
        status, found, fix = _refused(error)
    except Exception as error:  # a third-party package may raise anything while it loads: that is a finding too
        status, found, fix = "missing", f"the check failed: {type(error).__name__}: {error}", ""
    return Check(name=name, status=status, found=found, fix=fix)


def _python() -> _Finding:
    return _Finding("ok", f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}")


def _package() -> _Finding:
    return _Finding("ok", f"{__version__}, {Path(__file__).parents[1]}")


def _native() -> _Finding:
    try:
        module = import_module(_NATIVE)
    except ImportError as error:
        return _Finding("missing", str(error), _AGAIN)
    return _Finding("ok", str(module.__file__))


def _runtime(name: str) -> _Finding:
    try:
        described = open_runtime(name).describe()
        if name in PACKAGES:
            _call_cuda()
    except EdgeError as error:
        return _refused(error, "missing" if name == DEFAULT_RUNTIME else "note")
    return _Finding("ok", _joined(f"{key} {value}" for key, value in described.items() if key != "runtime"))


def _call_cuda() -> None:
    """Allocate one byte on the device, which loads the CUDA Runtime and fails if the driver is too old for it.

    Importing `cuda-bindings` succeeds with any driver.
    """
    cuda = open_room("runtimes.cuda_device").open_cuda()
    cuda.free(cuda.allocate(1))


def _cuda() -> _Finding:
    try:
        device = cuda_device()
    except EdgeError as error:
        return _absent(error)
    shared = "shared with the CPU" if device.integrated else "of its own"
    memory = f"{device.memory_mb / 1e3:.1f} GB {shared}"
    gpu = f"{device.name}, sm_{device.sm}, {device.multiprocessors} multiprocessors"
    return _Finding("ok", f"{gpu}, {memory}, driver for CUDA {device.driver}")


def _tensorrt(flavour: Flavour) -> _Finding:
    """Check whether engines can be built: TensorRT needs a GPU to build them, TensorRT-RTX only to run them."""
    try:
        tensorrt = open_tensorrt(flavour)
    except EdgeError as error:
        return _absent(error)
    return _Finding("ok", f"{tensorrt.version}, reads graphs in the {tensorrt.dialect} dialect")


def _capture() -> _Finding:
    return _Finding("ok", str(import_module(_CAPTURE).Gst.version_string()))


def _decoder(codec: str) -> _Finding:
    """Name the decoder chosen for `codec`, or say why none works."""
    known = [status for status in import_module(_CAPTURE).probe() if status.codec == codec]
    for status in known:
        if status.usable:
            return _Finding("ok", status.decoder)
    reasons = _joined(f"{status.decoder}: {status.reason.partition('; ')[0]}" for status in known)
    fix = known[-1].reason.partition("; ")[2]
    return _Finding("missing" if codec == _NEEDED_CODEC else "note", f"no decoder works ({reasons})", fix)


def _live(codec: str) -> _Finding:
    """Name the decoder of live sources for `codec`, and the reason for the choice."""
    known = next(row for row in CODECS if row.name == codec)
    try:
        choice = choose(known, import_module(_CAPTURE).features())
    except EdgeError as error:
        return _refused(error, "missing" if codec == _NEEDED_CODEC else "note")
    return _Finding("ok", f"{choice.element} {choice.reason}")


def _live_encoder() -> _Finding:
    """Name the encoder of raw sources, whose video is kept encoded."""
    try:
        choice = choose_encoder(import_module(_CAPTURE).features())
    except EdgeError as error:
        return _refused(error, "note")
    return _Finding("ok", f"{choice.element} {choice.reason}")


def _bundle(folder: Path) -> _Finding:
    try:
        opened = open_bundle(folder)
    except EdgeError as error:
        return _Finding("missing", str(error), f"give another with --bundle, or {_AGAIN}")
    manifest = opened.manifest
    return _Finding(
        "ok", f"{manifest.name} {manifest.version}, {len(manifest.files)} files, sha256 {opened.sha256[:12]}, {folder}"
    )


def _refused(error: EdgeError, status: Status = "missing") -> _Finding:
    """Make a finding from an error whose message ends in the command that fixes it."""
    found, _, fix = str(error).partition("; run: ")
    return _Finding(status, found, fix)


def _absent(error: EdgeError) -> _Finding:
    """Make a note from an error whose message ends in what to do."""
    found, _, fix = str(error).rpartition("; ")
    return _Finding("note", found, fix.removeprefix("run: "))


def _optional(package: str, extra: str, purpose: str) -> _Finding:
    """Check whether a package is installed, without importing it."""
    try:
        return _Finding("ok", f"{package} {version(package)}")
    except PackageNotFoundError:
        return _Finding("note", f"{package} is not installed; only {purpose} needs it", pip_install(extra))


def _rendering() -> _Finding:
    found = _optional("mujoco", "scenes", "rendering scenes")
    if found.status == "ok" and sys.platform == "linux" and ctypes.util.find_library("EGL") is None:
        return _Finding("note", f"{found.found}, but no libEGL", "apt-get install libegl1 libgl1-mesa-dri")
    return found


def _machine() -> _Finding:
    machine = identify()
    target = target_of(machine)
    parts = [
        machine.board,
        f"{machine.cpu_model or machine.arch}, {machine.cores} cores",
        machine.memory_total_mb and f"{machine.memory_total_mb / 1e3:.1f} GB",
        machine.os,
        machine.l4t and f"L4T {machine.l4t}",
        machine.nvidia_driver and f"NVIDIA driver {machine.nvidia_driver}",
        None if target is CPU else f"target {target.name}",
    ]
    return _Finding("note", _joined(part for part in parts if part))


def _conditions() -> _Finding:
    now, room_mb = observe(), memory_room_mb()
    hottest, drawn = max(now.temperatures_c.values(), default=None), whole_draw(now.power_w)
    parts = [
        now.cpu_mhz and f"CPU {now.cpu_mhz:.0f} MHz",
        now.governor and f"governor {now.governor}",
        {True: "clocks locked", False: "clocks not locked", None: None}[now.clocks_locked],
        now.gpu_mhz and f"GPU {now.gpu_mhz:.0f} MHz",
        now.power_mode and f"power mode {now.power_mode}",
        now.memory_available_mb and f"{now.memory_available_mb / 1e3:.1f} GB free",
        None if room_mb is None else f"{room_mb / 1e3:.1f} GB left by the limit of this container or service",
        hottest and f"hottest zone {hottest:.0f} °C",
        drawn and f"{drawn.power_w:.1f} W at {drawn.rail}",
    ]
    return _Finding("note", _joined(part for part in parts if part) or "no sensor answers")


def _joined(parts: Iterable[object]) -> str:
    return ", ".join(str(part) for part in parts)
