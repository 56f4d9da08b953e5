"""Sizes of the models: tokens, bytes and adapters, against numbers of the public checkpoints."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from decoder_double import HIDDEN, STATE, DoubleSession

from edge_sdk.hardware.numbers import ANSWER_STEPS, MODELS, QUESTION_TOKENS, ReasoningNumbers
from edge_sdk.reasoning.cache import TRUNK, Addition, Prefix


def reasoning(name: str, **changes: object) -> ReasoningNumbers:
    found = MODELS[name].reasoning
    assert found is not None
    return msgspec.structs.replace(found, **changes)


def test_tokens_of_a_clip() -> None:
    clip = reasoning("videollama3-7b")
    assert clip.frame_tokens == 91
    # header 3, 767 for the times of 96 frames, 8,736 for images
    assert clip.prefix_tokens == 3 + 767 + 8736
    assert (clip.prefill_calls(), clip.question_calls()) == (74, 7)
    assert reasoning("videollama3-7b", frames=50, patches=760).prefix_tokens == 3 + 399 + 9500


def test_a_clip_with_its_questions_and_answers_fits_the_slots() -> None:
    clip = reasoning("videollama3-7b")
    assert clip.prefix_tokens + QUESTION_TOKENS + 6 * ANSWER_STEPS[0] <= clip.slots - clip.branches


@pytest.mark.parametrize(
    ("name", "precision", "gigabytes"),
    [
        ("videollama3-2b", "fp16", {"vision": 0.82, "decoder": 2.62, "head": 0.467, "KV cache": 0.308}),
        ("videollama3-2b", "w4a16", {"vision": 0.82, "decoder": 0.676, "head": 0.467, "KV cache": 0.308}),
        ("videollama3-7b", "w8a16", {"vision": 0.82, "decoder": 6.53, "head": 1.09, "KV cache": 0.617}),
        ("videollama3-7b", "w4a16", {"vision": 0.82, "decoder": 3.36, "head": 1.09, "KV cache": 0.617}),
    ],
)
def test_bytes_by_part(name: str, precision: str, gigabytes: dict[str, float]) -> None:
    found = reasoning(name, precision=precision).weight_bytes()
    assert found.keys() - gigabytes.keys() == {"projector"}
    for part, expected in gigabytes.items():
        assert found[part] / 1e9 == pytest.approx(expected, rel=0.01), part


def test_the_embedding_table_stays_on_disk() -> None:
    assert reasoning("videollama3-7b").embedding_bytes() / 1e9 == pytest.approx(1.09, rel=0.001)


def test_a_switchable_adapter_costs_its_matrices_and_projector() -> None:
    """161.5 million values of LoRA at rank 64, 323 MB of bfloat16, and 34 MB of projector on the 7B."""
    one = reasoning("videollama3-7b", switchable=True)
    assert one.lora_values == pytest.approx(161.5e6, rel=0.001)
    two = msgspec.structs.replace(one, adapters=2)
    more = {part: size - one.weight_bytes()[part] for part, size in two.weight_bytes().items()}
    assert more["KV cache"] == one.weight_bytes()["KV cache"]
    assert more["LoRA"] / 1e6 == pytest.approx(323, rel=0.001)
    assert more["projector"] / 1e6 == pytest.approx(34, rel=0.002)
    assert more["decoder"] == more["head"] == 0


@pytest.mark.parametrize("adapters", [1, 2])
def test_calls_are_those_that_a_prefix_makes(adapters: int) -> None:
    clip = reasoning("videollama3-2b", adapters=adapters, frames=11, patches=52)
    asked = math.ceil(QUESTION_TOKENS / adapters)
    session = DoubleSession(slots=2048)
    prefix = Prefix(session, STATE)
    for _ in range(clip.prefix_tokens):
        prefix.append(np.ones((1, HIDDEN), np.float32))
    assert clip.prefix_tokens % clip.chunk > 0
    assert prefix.calls == clip.prefill_calls()
    questions = [asked // 3, asked // 3, asked - 2 * (asked // 3)]
    prefix.grow([Addition(TRUNK, np.ones((tokens, HIDDEN), np.float32)) for tokens in questions])
    assert prefix.calls - clip.prefill_calls() == clip.question_calls()
    assert max(call["embeds"].shape[1] for call in session.calls) == clip.chunk


def test_a_second_merged_adapter_is_a_second_decoder_with_a_head_and_a_cache() -> None:
    one, two = reasoning("videollama3-7b").weight_bytes(), reasoning("videollama3-7b", adapters=2).weight_bytes()
    for part in ("decoder", "head", "KV cache", "projector"):
        assert two[part] == 2 * one[part]
    assert two["vision"] == one["vision"]
    assert "LoRA" not in two


def test_bits_of_head_and_cache_follow_the_activations_unless_stated() -> None:
    half = reasoning("videollama3-2b").weight_bytes()
    full = reasoning("videollama3-2b", precision="fp32").weight_bytes()
    small = reasoning("videollama3-2b", head_bits=8, kv_bits=8).weight_bytes()
    for part in ("head", "KV cache"):
        assert (full[part], small[part]) == (2 * half[part], half[part] / 2)
