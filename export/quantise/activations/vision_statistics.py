"""The largest |x| of every input of the vision tower's linears, over the frames of clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edge_sdk.errors import ConfigError

FILE = "vision.safetensors"
# The linear whose inputs represent a group, whose linears share their inputs.
_FIRST = {"qkv": "q", "out": "out", "fc1": "fc1", "fc2": "fc2"}


class VisionMaxima:
    """Accumulator of maxima; `held` has `[inputs]` for each `LAYER.GROUP`."""

    def __init__(self) -> None:
        self.held: dict[str, Tensor] = {}

    @contextmanager
    def watch(self, index: int, layer: nn.Module) -> Iterator[None]:
        """Record the inputs of the linears of layer number `index` while the context is open."""
        hooks = [
            layer.get_submodule(linear).register_forward_pre_hook(self._taker(f"{index:02}.{group}"))
            for group, linear in _FIRST.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def add(self, name: str, rows: Tensor) -> None:
        """Include `rows [n, inputs]` in the maxima `name`."""
        found = rows.float().abs().amax(0)
        self.held[name] = torch.maximum(self.held[name], found) if name in self.held else found

    def save(self, path: Path) -> None:
        """Write the maxima to `path`. Raises `ConfigError` for NaN or infinity."""
        for name, tensor in self.held.items():
            if not bool(torch.isfinite(tensor).all()):
                raise ConfigError(
                    f"vision {name} is not finite: the tower gave NaN or infinity for a clip; check the checkpoint "
                    "with edge-sdk export and verify, and the clips"
                )
        save_file({name: tensor.cpu() for name, tensor in self.held.items()}, path)

    def _taker(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda linear, given: self.add(name, given[0].flatten(0, -2))


def merge_maxima(parts: Sequence[Path], out: Path) -> None:
    """Write the maxima over the files `parts` to `out`; write nothing where one of the files is missing."""
    if not all(part.is_file() for part in parts):
        return
    whole = VisionMaxima()
    for part in parts:
        for name, tensor in load_file(part).items():
            whole.add(name, tensor[None])
    whole.save(out)


def read_maxima(folder: Path) -> dict[str, Tensor]:
    """The maxima in a folder of statistics. Raises `ConfigError` where there are none, or they are not finite."""
    path = folder / FILE
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"{path}: expected the vision tower's statistics, found {error}; calibrate again with this version"
        ) from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in found.values()):
        raise ConfigError(f"{path} holds NaN or infinity; calibrate again")
    return found
