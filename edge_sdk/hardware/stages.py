"""The stages of a model on a target: the student on every frame, and the video LLM from frames to answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_sdk.hardware.figures import Target
from edge_sdk.hardware.numbers import ANSWER_STEPS, ModelNumbers, ReasoningNumbers
from edge_sdk.hardware.roofline import Rates, Stage, Work, decoder_work, projector_work, rates, stage, vision_work


def stages(numbers: ModelNumbers, target: Target, threads: int | None = None) -> Iterator[Stage]:
    """Yield every stage of `numbers` on `target`; `threads` is the number of CPU cores used, by default all."""
    if numbers.student:
        student = numbers.student
        passed = student.weight_bytes + student.streams * (2 * student.state_bytes + student.activation_bytes)
        work = Work(flops=student.flops * student.streams, bytes=passed)
        yield stage("student", "frame", 1, work, rates(target, student.precision, threads))
    if numbers.reasoning:
        reasoning = numbers.reasoning
        vision_at = rates(target, reasoning.vision_precision, threads)
        yield from _picture_stages(reasoning, vision_at)
        yield from _text_stages(reasoning, rates(target, reasoning.precision, threads))


def _picture_stages(reasoning: ReasoningNumbers, at: Rates | None) -> Iterator[Stage]:
    vision, precision = reasoning.vision, reasoning.vision_precision
    frame = vision_work(vision, reasoning.patches, 1, precision)
    yield stage("vision", "frame", reasoning.frames, frame, at)
    projected = projector_work(vision, reasoning.decoder, reasoning.frame_tokens, precision)
    yield stage("projector", "frame", reasoning.frames * reasoning.adapters, projected, at)


def _text_stages(reasoning: ReasoningNumbers, at: Rates | None) -> Iterator[Stage]:
    """Yield the stages of prefix, questions and answers.

    Every token attends to all slots, because a masked slot is computed like any other.
    """

    def calls(name: str, unit: str, count: int, tokens: int, rows: int) -> Stage:
        work = decoder_work(
            reasoning.decoder,
            tokens,
            reasoning.slots,
            rows,
            reasoning.precision,
            reasoning.head_bits,
            reasoning.kv_bits,
            reasoning.lora_values if reasoning.switchable else 0,
        )
        return stage(name, unit, count, work, at)

    adapters = reasoning.adapters
    yield calls("prefill", "chunk", adapters * reasoning.prefill_calls(), reasoning.chunk, 0)
    yield calls("questions", "chunk", adapters * reasoning.question_calls(), reasoning.chunk, reasoning.branches)
    yield calls("decode", "step", sum(ANSWER_STEPS[:adapters]), reasoning.branches, reasoning.branches)


def clip_s(timed_stages: Sequence[Stage]) -> float | None:
    """Return the seconds from a whole clip to every answer, without the student; None if any stage is not timed."""
    beside = [each for each in timed_stages if each.name != "student"]
    known = [each.each_s * each.count for each in beside if each.each_s is not None]
    return sum(known) if beside and len(known) == len(beside) else None
