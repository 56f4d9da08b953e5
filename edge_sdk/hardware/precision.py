"""Check whether a target supports a recipe's precisions before anything is computed, and name a recipe that works.

TensorRT compiles 8-bit products only for GPUs that have them: FP8 from SM 89 on. It accepts 4-bit weights from SM 80
on. On any CPU, ONNX Runtime supports integers, but not FP8.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge_sdk.bundle.manifest_language import Quantisation
from edge_sdk.errors import ConfigError
from edge_sdk.hardware.figures import Peak, Target
from edge_sdk.hardware.roofline import PRECISIONS, Precision

_FEW: frozenset[Peak] = frozenset({"int8", "fp8", "fp4"})
_NUMBERS: dict[Precision, str] = {"w4a16": "4-bit weights", "fp8": "fp8 numbers"}
# What to do for older GPUs instead of storing each of these.
_INSTEAD: dict[Precision, str] = {
    "w4a16": "quantise the checkpoint with recipe w8 for it, or with bits = 8 in place of 4",
    "fp8": 'quantise the checkpoint with recipe w8a8 for it, or with number = "int" in place of "fp8"',
}


def require_precisions(target: Target, precisions: Iterable[Precision], recipe: str) -> None:
    """Raise `ConfigError` for the first of `precisions` that `target` does not support; `recipe` needs them."""
    for precision in sorted(precisions):
        if not computes(target, precision):
            works = "w8a8" if precision != "w4a16" and computes(target, "w8a8") else "w8"
            raise ConfigError(
                f"recipe {recipe}: expected a target with {_needed(target, precision)}; take {works} for it, or a "
                "target such as thor-t5000"
            )


def require_sm(sm: int | None, few: Quantisation, bundle: str) -> None:
    """Raise `ConfigError` if a GPU of compute capability `sm` / 10 does not support the number formats of `few`.

    With `sm` None, nothing is known about the GPU, and nothing is refused.
    """
    held: dict[Precision, bool] = {"fp8": few.fp8, "w4a16": few.four_bits}
    for precision in (name for name, there in held.items() if there):
        smallest = PRECISIONS[precision].smallest_sm
        if sm is not None and sm < smallest:
            raise ConfigError(
                f"the bundle {bundle!r} holds {_NUMBERS[precision]}, for which a GPU of sm_{smallest} or later is "
                f"needed; this is sm_{sm}: {_INSTEAD[precision]}"
            )


def computes(target: Target, precision: Precision) -> bool:
    """Whether `target` supports `precision`; a GPU must have its products and a compiler that generates them."""
    numbers = PRECISIONS[precision]
    if target.kind == "cpu":
        return numbers.peak not in _FEW or numbers.peak == "int8"
    if (target.sm or 0) < numbers.smallest_sm:
        return False
    return numbers.peak not in _FEW or numbers.peak in target.dense_tops


def _needed(target: Target, precision: Precision) -> str:
    """Say what `target` lacks for `precision`, and what it has."""
    numbers = PRECISIONS[precision]
    who = f"{target.name} ({target.title})"
    if numbers.peak not in _FEW:
        sm = f"sm_{target.sm}" if target.sm else "no GPU that is known"
        return f"a GPU of sm_{numbers.smallest_sm} or later for {_NUMBERS[precision]}, {who} has {sm}"
    return f"{numbers.peak} products, {who} has {', '.join(target.dense_tops) or 'nothing that is claimed'}"
