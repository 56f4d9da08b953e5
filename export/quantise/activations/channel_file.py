"""The part of a calibration that a bundle keeps: two numbers per channel. Grams, `[n, n]`, are left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from edge_sdk.bundle.activations import ACTIVATIONS, LARGEST, MEAN
from edge_sdk.export.quantise.activations.vision_statistics import FILE, read_maxima
from edge_sdk.export.quantise.statistics import GROUPS, Statistics


def write_channels(statistics: Statistics, decoders: Sequence[str], folder: Path) -> None:
    """Write the channels of `decoders`, and of the vision tower if calibrated, to their place below `folder`.

    Raises `ConfigError` for a file of statistics that is missing or damaged.
    """
    held: dict[str, Tensor] = {}
    for decoder in decoders:
        for layer in range(statistics.index.layers):
            for group in GROUPS:
                name = f"decoder.{decoder}.{layer:02}.{group}"
                held[name + MEAN], held[name + LARGEST] = statistics.channels(decoder, layer, group)
    if (statistics.folder / FILE).is_file():
        held |= {f"vision.{name}{LARGEST}": each for name, each in read_maxima(statistics.folder).items()}
    path = folder / ACTIVATIONS
    path.parent.mkdir(parents=True)
    save_file({name: each.contiguous() for name, each in held.items()}, path)
