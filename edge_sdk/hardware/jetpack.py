"""Which TensorRT comes with which JetPack, and which dialect of graphs a TensorRT reads.

The installed TensorRT decides, not the board's name: JetPack releases for the same board differ in dialect.
"""

from __future__ import annotations

import re

import msgspec

from edge_sdk.errors import ConfigError
from edge_sdk.types import Dialect, Value

OLDEST_TENSORRT = (10, 3)
# From this version on, RotaryEmbedding, RMSNormalization and TensorScatter are parsed (onnx-tensorrt,
# docs/Changelog.md).
NATIVE_TENSORRT = (10, 15)


class JetPack(Value, frozen=True, kw_only=True):
    """One release, with its versions of Jetson Linux, CUDA and TensorRT, and the `sm` of its GPUs.

    `verified` is true if the versions of CUDA and TensorRT were read in `source`.
    """

    name: str
    l4t: str
    cuda: str
    tensorrt: str
    sm: tuple[int, ...]
    source: str
    verified: bool


_NOTES = "docs.nvidia.com/jetson, release notes"

JETPACKS: tuple[JetPack, ...] = (
    JetPack(
        name="6.1",
        l4t="36.4",
        cuda="12.6",
        tensorrt="10.3",
        sm=(87,),
        source="pytorch.org/TensorRT/getting_started/jetpack.html",
        verified=True,
    ),
    JetPack(
        name="6.2",
        l4t="36.4.3",
        cuda="12.6",
        tensorrt="10.3",
        sm=(87,),
        source="docs.pytorch.org/TensorRT, getting_started/jetpack",
        verified=True,
    ),
    JetPack(
        name="6.2.2",
        l4t="36.5",
        cuda="12.6",
        tensorrt="10.3",
        sm=(87,),
        source=_NOTES,
        verified=False,
    ),
    JetPack(name="7.0", l4t="38.2", cuda="13.0", tensorrt="10.13.3", sm=(110,), source=_NOTES, verified=False),
    JetPack(name="7.1", l4t="38.4", cuda="13.0", tensorrt="10.13.3", sm=(110,), source=_NOTES, verified=False),
    JetPack(name="7.2", l4t="39.2", cuda="13.2", tensorrt="10.16.2", sm=(87, 110), source=_NOTES, verified=False),
)
"""Releases with a TensorRT that this SDK can use, oldest first.

JetPack 7.2.2 also takes TensorRT 11.4.1, as a package of its own, on AGX Orin and Thor
(docs.nvidia.com/deeplearning/tensorrt/11.4.1/api/migration/tensorrt-10x-to-11x-jetson.html).
"""


def newest_jetpack(sm: int) -> JetPack | None:
    """Return the newest release for a board whose GPU is `sm`; None if there is none, as for a graphics card."""
    return next((jetpack for jetpack in reversed(JETPACKS) if sm in jetpack.sm), None)


def jetpack_of(l4t: str) -> JetPack | None:
    """Return the release with Jetson Linux `l4t`, such as "36.4.3", or the newest earlier one of its major version.

    The name of an earlier one says so, such as "6.2.2 or later": its TensorRT may be older than the one installed.
    None for a major version without a known release, and for one that is older than all of them.
    """
    found = _numbers(l4t)
    known = [each for each in JETPACKS if _numbers(each.l4t)[:1] == found[:1] and _numbers(each.l4t) <= found]
    newest = max(known, key=lambda each: _numbers(each.l4t), default=None)
    if newest is None or _numbers(newest.l4t) == found:
        return newest
    return msgspec.structs.replace(newest, name=f"{newest.name} or later")


def _numbers(version: str) -> tuple[int, ...]:
    """Split a version into its numbers, without zeros at its end: 36.5.0 is 36.5."""
    return tuple(int(part) for part in re.findall(r"\d+", re.sub(r"(\.0+)+$", "", version)))


def dialect_of(tensorrt: str) -> Dialect:
    """Return the dialect for a version of TensorRT, such as "10.3.0.30".

    Raises `ConfigError` for a version older than 10.3, and for text that is not a version.
    """
    found = re.match(r"(\d+)\.(\d+)", tensorrt)
    if found is None:
        raise ConfigError(f"a version of TensorRT is written such as 10.3.0, found {tensorrt!r}")
    version = (int(found.group(1)), int(found.group(2)))
    if version < OLDEST_TENSORRT:
        raise ConfigError(f"TensorRT 10.3 or newer is needed, found {tensorrt}; install JetPack 6.1 or newer")
    return "native" if version >= NATIVE_TENSORRT else "decomposed"
