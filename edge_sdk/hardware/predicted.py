"""Predict the speed of a quantised bundle on each target, beside the same models unquantised."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.proof import Proof
from edge_sdk.hardware import CPU, TARGETS, Target
from edge_sdk.hardware.bundled import element_precision, model_numbers
from edge_sdk.hardware.numbers import ModelNumbers, ReasoningNumbers
from edge_sdk.hardware.plan import plan
from edge_sdk.types import Value


class Predicted(Value, frozen=True, kw_only=True):
    """One target: tokens per second of one answer, and peak memory in 10^6 bytes; `runs` says whether it fits."""

    target: str
    before_tokens_s: float
    after_tokens_s: float
    before_mb: float
    after_mb: float
    runs: bool | None


def predict(bundle: Bundle) -> tuple[Predicted, ...]:
    """Predict for every target that claims speeds; empty for a bundle in full weights."""
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


class PredictedStudent(Value, frozen=True, kw_only=True):
    """One target: the student's milliseconds per frame of one stream, in float32 and in 8 bits."""

    target: str
    before_ms: float
    after_ms: float


def predict_student(bundle: Bundle, proof: Proof | None) -> tuple[PredictedStudent, ...]:
    """Predict for every target that claims speeds; empty without a proof that gives the float32 student's sizes."""
    told = proof.student if proof else None
    if told is None or told.size_bytes is None or told.float_activation_bytes is None:
        return ()
    numbers = model_numbers(bundle)
    after = numbers.student
    if after is None:
        return ()
    was = {"weight_bytes": told.size_bytes[0], "activation_bytes": told.float_activation_bytes}
    before = msgspec.structs.replace(after, precision="fp32", **was)
    sides = [msgspec.structs.replace(numbers, reasoning=None, student=each) for each in (before, after)]
    found = []
    for target in TARGETS:
        before_s, after_s = (_each_s(side, target, "student") for side in sides)
        if target is not CPU and before_s is not None and after_s is not None:
            found.append(PredictedStudent(target=target.name, before_ms=1e3 * before_s, after_ms=1e3 * after_s))
    return tuple(found)


def describe_student(found: tuple[PredictedStudent, ...]) -> Iterator[str]:
    """Describe predictions of a student in lines for people."""
    if found:
        yield f"{'predicted':18}{'ms a frame':>10}{'8 bits':>10}"
    yield from (f"  {each.target:16}{each.before_ms:>10.2f}{each.after_ms:>10.2f}" for each in found)


def describe(found: tuple[Predicted, ...]) -> Iterator[str]:
    """Describe predictions in lines for people."""
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
    """Return the seconds of a decode step of one row, None if the target claims nothing."""
    if numbers.reasoning is None:
        return None
    alone = msgspec.structs.replace(numbers, reasoning=msgspec.structs.replace(numbers.reasoning, branches=1))
    return _each_s(alone, target, "decode")


def _each_s(numbers: ModelNumbers, target: Target, stage: str) -> float | None:
    """Return the seconds of one unit of a stage, None if the target claims nothing."""
    return next((each.each_s for each in plan(numbers, target).stages if each.name == stage), None)
