"""How fast a bundle in few bits will answer on each target, beside the same model in its graphs' own element type."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.hardware import CPU, TARGETS, Target
from edge_sdk.hardware.bundled import element_precision, model_numbers
from edge_sdk.hardware.numbers import ModelNumbers, ReasoningNumbers
from edge_sdk.hardware.plan import plan
from edge_sdk.types import Value


class Predicted(Value, frozen=True, kw_only=True):
    """One target: tokens a second of one answer, and 10^6 bytes at the peak; `runs`: the bundle fits."""

    target: str
    before_tokens_s: float
    after_tokens_s: float
    before_mb: float
    after_mb: float
    runs: bool | None


def predict(bundle: Bundle) -> tuple[Predicted, ...]:
    """Every target that claims a bandwidth; none for a bundle in full weights."""
    language = bundle.manifest.language
    if language is None or language.quantisation is None:
        return ()
    numbers = model_numbers(bundle)
    if numbers.reasoning is None:
        return ()
    after, own = numbers.reasoning, element_precision(language)
    before = msgspec.structs.replace(
        after, precision=own, vision_precision=own, head_bits=None, kv_bits=None, fp8=False, stored_bytes=None
    )
    found = (_predict(numbers, before, after, target) for target in TARGETS if target is not CPU)
    return tuple(each for each in found if each)


def describe(found: tuple[Predicted, ...]) -> Iterator[str]:
    """Predictions in lines for people."""
    if found:
        yield f"{'predicted':18}{'tokens/s':>10}{'few bits':>10}{'peak MB':>12}{'few bits':>10}"
    for each in found:
        fits = "" if each.runs else "  does not fit"
        yield (
            f"  {each.target:16}{each.before_tokens_s:>10.1f}{each.after_tokens_s:>10.1f}{each.before_mb:>12,.0f}"
            f"{each.after_mb:>10,.0f}{fits}"
        )


def _predict(
    numbers: ModelNumbers, before: ReasoningNumbers, after: ReasoningNumbers, target: Target
) -> Predicted | None:
    sides = [msgspec.structs.replace(numbers, reasoning=each) for each in (before, after)]
    plans, steps = [plan(side, target) for side in sides], [_step_s(side, target) for side in sides]
    if steps[0] is None or steps[1] is None:
        return None
    return Predicted(
        target=target.name,
        before_tokens_s=1 / steps[0],
        after_tokens_s=1 / steps[1],
        before_mb=plans[0].peak_mb,
        after_mb=plans[1].peak_mb,
        runs=plans[1].runs,
    )


def _step_s(numbers: ModelNumbers, target: Target) -> float | None:
    """Seconds of a decode step of one row, None where the target claims nothing."""
    if numbers.reasoning is None:
        return None
    alone = msgspec.structs.replace(numbers, reasoning=msgspec.structs.replace(numbers.reasoning, branches=1))
    return next((each.each_s for each in plan(alone, target).stages if each.name == "decode"), None)
