"""What each extra of this project installs, as a command that works wherever the SDK came from.

An error message must not name an extra of the SDK itself, because pip would ask PyPI, where that name belongs to
another project. So it names the packages. The table repeats `pyproject.toml`, and a test compares the two.
"""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec

# 12.9 contains CUDA Runtime 12.9, for which the driver of JetPack 6 (Python 3.10, CUDA 12.6) may be too old; 12.8
# contains none and calls the driver directly.
_BINDINGS = "cuda-bindings>=12.8,<12.9" if sys.version_info < (3, 11) else "cuda-bindings>=12.8,<13"
_GSTREAMER = {
    "linux": ("PyGObject>=3.42,<3.52",),
    "darwin": ("gstreamer-python", "gstreamer-bundle"),
    "win32": ("gstreamer-python", "gstreamer-bundle"),
}

# extra -> what it installs, except `gst`, which differs between systems
EXTRAS: dict[str, tuple[str, ...]] = {
    "cpu": ("onnxruntime>=1.23",),
    "cuda": ("onnxruntime-gpu>=1.23", _BINDINGS),
    "tensorrt": (_BINDINGS,),
    "plot": ("matplotlib>=3.8",),
    "rtx": ("tensorrt-rtx>=1.7", _BINDINGS),
    "export": (
        "torch>=2.9",
        "transformers>=5.0",
        "peft>=0.17",
        "accelerate>=1.0",
        "onnx>=1.19",
        "onnxscript>=0.5",
    ),
    "evaluate": ("nltk>=3.9", "rouge-score>=0.1.2"),
    "scenes": ("mujoco>=3.3",),
    "sign": ("cryptography>=3.4",),
}


def packages_of(extra: str, platform: str = sys.platform) -> tuple[str, ...]:
    """The packages of an extra, as pip requirements; empty for an unknown extra."""
    return _GSTREAMER.get(platform, ()) if extra == "gst" else EXTRAS.get(extra, ())


def extra_of(module: str) -> str | None:
    """The extra with a package named like the top-level `module`; None if there is none."""
    for extra, packages in EXTRAS.items():
        if module in (re.split("[<>=]", package)[0].replace("-", "_") for package in packages):
            return extra
    return None


def missing(package: str, extra: str) -> str:
    """The message for a top-level `package` of an extra that could not be imported, or only in part."""
    if find_spec(package) is not None:
        return f"the installed package {package!r} is incomplete or too old; run: {pip_install(extra)} --upgrade"
    return f"this needs the package {package!r}, which is not installed; run: {pip_install(extra)}"


def pip_install(extra: str, *, again: bool = False) -> str:
    """The command that installs the packages of an extra; `again` reinstalls packages that do not load."""
    options = "--force-reinstall --no-deps " if again else ""
    return f"pip install {options}{' '.join(f'{package!r}' for package in packages_of(extra))}"
