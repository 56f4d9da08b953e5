"""An adapter whose LoRA matrices were trained further beside a quantised base, and the file that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from edge_sdk.bundle.proof import Recovered
from edge_sdk.export.adapters import Adapter
from edge_sdk.export.graphs.decoder_io import lora_names
from edge_sdk.export.quantise.recovery.whole_decoder import LayerPairs


@dataclass(frozen=True)
class RecoveredLora:
    """The file of `save_pairs`, its SHA-256, and the record of its training."""

    file: Path
    sha256: str
    told: Recovered


class RecoveredAdapter(Adapter):
    """`adapter` with the matrices in `file`, whose B includes the scale."""

    def __init__(self, adapter: Adapter, file: Path) -> None:
        vars(self).update(vars(adapter))
        self._file = file

    def lora(self, layer: int, linear: str) -> tuple[Tensor, Tensor, float] | None:
        """See `Adapter`."""
        if (layer, linear) not in self._pairs:
            return None
        with safe_open(self._file, framework="pt") as held:
            a, b = (held.get_tensor(name) for name in lora_names(layer, linear))
        return a.mT, b.mT, 1.0


def save_pairs(pairs: LayerPairs, path: Path) -> None:
    """Write float32 matrices, A `[inputs, rank]` and B `[rank, outputs]`, under the names of a decoder's inputs."""
    save_file(_named(pairs), path)


def _named(pairs: LayerPairs) -> dict[str, Tensor]:
    return {
        name: matrix.contiguous()
        for layer, linears in enumerate(pairs)
        for linear, pair in linears.items()
        for name, matrix in zip(lora_names(layer, linear), pair, strict=True)
    }
