"""Activation statistics of a calibration, by channel: the file `quantise/activations.safetensors` of a bundle.

For the inputs of every group of linear layers it holds `NAME.largest`, the largest |x| of each channel, and for
decoders also `NAME.mean`, the mean of |x| over tokens; all float32 `[channels]`. NAME is `decoder.KEY.LAYER.GROUP` or
`vision.LAYER.GROUP`. All statistics are of the model in full weights.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from edge_sdk.bundle.folder import Bundle
from edge_sdk.errors import BundleError

ACTIVATIONS = "quantise/activations.safetensors"
LARGEST, MEAN = ".largest", ".mean"


class Channels(NamedTuple):
    """The largest |x| and the mean |x| of one group's inputs, `[channels]`; `mean` is None in the vision tower."""

    largest: NDArray[np.float32]
    mean: NDArray[np.float32] | None


def read_activations(bundle: Bundle) -> dict[str, Channels]:
    """Read the statistics in a bundle, by group name in sorted order; empty if the bundle has none.

    Raises `BundleError` for a file that cannot be read, or holds anything but such statistics.
    """
    if ACTIVATIONS not in bundle.manifest.files:
        return {}
    try:
        held = load_file(bundle.path(ACTIVATIONS))
    except (OSError, SafetensorError) as error:
        raise _broken(str(error)) from error
    for name, values in held.items():
        _check(name, values)
    names = sorted(name.removesuffix(LARGEST) for name in held if name.endswith(LARGEST))
    found = {name: Channels(held[name + LARGEST], held.get(name + MEAN)) for name in names}
    if stray := sorted(held.keys() - {name + kind for name in names for kind in (LARGEST, MEAN)}):
        raise _broken(f"{stray[0]} without its {LARGEST[1:]}")
    for name, each in found.items():
        if each.mean is not None and each.mean.shape != each.largest.shape:
            raise _broken(f"{len(each.largest)} and {len(each.mean)} channels of {name}")
    return found


def describe(found: dict[str, Channels]) -> str:
    """Describe the statistics of at least one group in one line for people."""
    name = max(found, key=lambda each: float(found[each].largest.max()))
    largest, mean = found[name]
    channel = int(largest.argmax())
    beside = "" if mean is None else f", mean {mean[channel]:.3g}"
    return (
        f"activations of {sum(len(each.largest) for each in found.values()):,} channels of {len(found):,} inputs: the "
        f"largest |x| is {largest[channel]:.4g}, in channel {channel} of {name}{beside}"
    )


def _check(name: str, values: NDArray[np.float32]) -> None:
    if values.dtype != np.float32 or values.ndim != 1 or not len(values):
        raise _broken(f"{name} of {values.dtype} {list(values.shape)}")
    if not bool(np.isfinite(values).all()) or float(values.min()) < 0:
        raise _broken(f"numbers below zero or not finite in {name}")


def _broken(found: str) -> BundleError:
    return BundleError(
        f"{ACTIVATIONS}: expected float32 [channels] for each NAME{LARGEST} and NAME{MEAN}, found {found}; "
        "quantise again"
    )
