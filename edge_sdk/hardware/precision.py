"""Does a target compute what a recipe makes? Asked before anything is computed, with the recipe that works instead.

TensorRT compiles products of 8-bit numbers only for GPUs that have them: FP8 from SM 89 on. On a CPU, ONNX Runtime
computes whole numbers everywhere and FP8 nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge_sdk.errors import ConfigError
from edge_sdk.hardware.figures import Peak, Target
from edge_sdk.hardware.roofline import PRECISIONS, Precision

_FEW: frozenset[Peak] = frozenset({"int8", "fp8", "fp4"})


def require_precisions(target: Target, precisions: Iterable[Precision], recipe: str) -> None:
    """Raise `ConfigError` for the first of `precisions` that `target` does not compute; `recipe` is who wants it."""
    for precision in sorted(precisions):
        if not _computes(target, precision):
            peak = PRECISIONS[precision].peak
            works = "w8a8" if _computes(target, "w8a8") else "w8"
            has = ", ".join(target.dense_tops) or "nothing that is claimed"
            raise ConfigError(
                f"recipe {recipe}: expected a target with {peak} products, {target.name} ({target.title}) has {has}; "
                f"take {works} for it, or a target such as thor-t5000"
            )


def require_fp8(sm: int | None, bundle: str) -> None:
    """Raise `ConfigError` where engines of FP8 are for a GPU of compute capability `sm` / 10 without such products.

    None is a GPU of which nothing is known.
    """
    smallest = PRECISIONS["fp8"].smallest_sm
    if sm is not None and sm < smallest:
        raise ConfigError(
            f"the bundle {bundle!r} holds fp8 numbers, for which a GPU of sm_{smallest} or later is needed; this is "
            f'sm_{sm}: quantise the checkpoint with recipe w8a8 for it, or with number = "int" in place of "fp8"'
        )


def _computes(target: Target, precision: Precision) -> bool:
    numbers = PRECISIONS[precision]
    if numbers.peak not in _FEW:
        return True
    if target.kind == "cpu":
        return numbers.peak == "int8"
    return numbers.peak in target.dense_tops and (target.sm or 0) >= numbers.smallest_sm
