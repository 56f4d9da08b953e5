"""The device that torch computes on: this machine's CPU, or one of its CUDA devices.

Results depend on the device only through the order of float32 sums, so what is written to disk names the device.
"""

from __future__ import annotations

import re

import torch

from edge_sdk.errors import ConfigError, MissingDependencyError

AUTO = "auto"
CPU = torch.device("cpu")
_KNOWN = re.compile(r"auto|cpu|cuda(:\d+)?")


def find_device(asked: str = AUTO) -> torch.device:
    """The device called `cpu`, `cuda` or `cuda:N`; `auto` is the first CUDA device, or the CPU where there is none.

    Raises `ConfigError` for another name, `MissingDependencyError` for a CUDA device that torch does not see.
    """
    if not _KNOWN.fullmatch(asked):
        raise ConfigError(f"--device must be auto, cpu, cuda or cuda:N, found {asked!r}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "cpu" or (asked == AUTO and not count):
        return CPU
    number = int(asked.partition(":")[2] or 0)
    if number >= count:
        seen = ", ".join(f"cuda:{each}" for each in range(count)) or "no CUDA device"
        raise MissingDependencyError(
            f"--device {asked}: torch {torch.__version__} sees {seen}; take --device cpu, or install a driver and a "
            "torch that is built for CUDA"
        )
    return torch.device("cuda", number)


def device_name(device: torch.device) -> str:
    """The name of a device in reports: `cpu`, or the kind and the name of an accelerator."""
    return f"cuda, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type
