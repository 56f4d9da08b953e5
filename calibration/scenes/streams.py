"""Named random streams of one seed, and a few draws used everywhere."""

from __future__ import annotations

import zlib

import numpy as np

Rng = np.random.Generator


def stream(seed: int, name: str) -> Rng:
    """The random stream `name` of `seed`; streams of different names are independent."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def uniform(rng: Rng, low: float, high: float) -> float:
    """Draw a plain float in [low, high)."""
    return float(rng.uniform(low, high))


def chance(rng: Rng, probability: float) -> bool:
    """True with the given probability."""
    return bool(rng.random() < probability)


def lerp(at_zero: float, at_one: float, share: float) -> float:
    """Linear blend from `at_zero` to `at_one`."""
    return at_zero + (at_one - at_zero) * share
