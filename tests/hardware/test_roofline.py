"""Arithmetic and traffic of the stages against sums worked out elsewhere, and times against published runs."""

from __future__ import annotations

import pytest

from edge_sdk.bundle.model_sizes import DecoderSizes, VisionSizes
from edge_sdk.hardware import find_target
from edge_sdk.hardware.figures import Figure, Target
from edge_sdk.hardware.numbers import QWEN_1_5B, QWEN_7B
from edge_sdk.hardware.roofline import (
    Precision,
    Rates,
    Work,
    decoder_work,
    projector_weights,
    projector_work,
    rates,
    stage,
    vision_work,
)

TOWER = VisionSizes()
# Qwen3's public configurations, of which NVIDIA publishes runs; their layers are Qwen2.5's without biases.
QWEN3_1_7B = DecoderSizes(layers=28, hidden=2048, heads=16, kv_heads=8, head_dim=128, intermediate=6144, vocab=151_936)
QWEN3_4B = DecoderSizes(layers=36, hidden=2560, heads=32, kv_heads=8, head_dim=128, intermediate=9728, vocab=151_936)
QWEN3_8B = DecoderSizes(layers=36, hidden=4096, heads=32, kv_heads=8, head_dim=128, intermediate=12_288, vocab=151_936)


def test_a_toy_by_hand() -> None:
    """Hidden 2, one head of 2, MLP of 3, one layer: q, k, v and o have 4 values each, the MLP 18."""
    toy = DecoderSizes(layers=1, hidden=2, heads=1, kv_heads=1, head_dim=2, intermediate=3, vocab=5)
    assert (toy.weights, toy.head_weights, toy.kv_values) == (34, 10, 4)
    work = decoder_work(toy, tokens=1, attended=7, rows=1, precision="fp16")
    # 44 multiply-adds with weights; scores and sums over 7 slots: 2 · 7 multiply-adds each
    assert work.flops == 2 * 44 + 2 * 28
    # 44 weights, 21 values that pass, and 4 values of the cache for 8 slots, two bytes each
    assert work.bytes == 2 * (44 + 21 + 32)


@pytest.mark.parametrize(
    ("decoder", "linears", "embedding", "kv_bytes"),
    [(QWEN_1_5B, 1_310_195_712, 233_373_696, 28_672), (QWEN_7B, 6_525_288_448, 544_997_376, 57_344)],
)
def test_sizes_are_those_of_the_public_models(
    decoder: DecoderSizes, linears: int, embedding: int, kv_bytes: int
) -> None:
    assert decoder.weights == linears
    assert decoder.head_weights == embedding
    assert 2 * decoder.kv_values == kv_bytes


def test_the_tower_and_the_projectors() -> None:
    # 412,147,440 parameters with biases and norms
    assert TOWER.weights == pytest.approx(412_147_440, rel=0.001)
    # 4,131,840 and 16,980,992 with two biases each
    assert projector_weights(TOWER, QWEN_1_5B) == 4_131_840 - 2 * 1536
    assert projector_weights(TOWER, QWEN_7B) == 16_980_992 - 2 * 3584
    assert projector_work(TOWER, QWEN_7B, 91, "fp16").flops == pytest.approx(2 * 16_980_992 * 91, rel=0.001)


@pytest.mark.parametrize(("patches", "gigaflops"), [(612, 551), (364, 316), (480, 424), (128, 107)])
def test_operations_of_a_frame(patches: int, gigaflops: float) -> None:
    assert vision_work(TOWER, patches, 1, "fp16").flops / 1e9 == pytest.approx(gigaflops, abs=0.6)


@pytest.mark.parametrize(
    ("decoder", "tokens", "teraflops"),
    [
        (QWEN_1_5B, 15_460, 61.1),
        (QWEN_1_5B, 9_510, 32.7),
        (QWEN_1_5B, 4_100, 12.2),
        (QWEN_7B, 15_460, 249.7),
        (QWEN_7B, 9_510, 142.2),
        (QWEN_7B, 4_100, 56.9),
    ],
)
def test_operations_of_a_causal_prefill(decoder: DecoderSizes, tokens: int, teraflops: float) -> None:
    """A causal kernel meets half of the tokens on average."""
    assert decoder_work(decoder, tokens, tokens / 2, 0, "fp16").flops / 1e12 == pytest.approx(teraflops, abs=0.07)


@pytest.mark.parametrize(
    ("decoder", "precision", "gigabytes"),
    [
        (QWEN_1_5B, "fp16", 3.36),
        (QWEN_1_5B, "w8a16", 2.05),
        (QWEN_1_5B, "w4a16", 1.42),
        (QWEN_7B, "fp16", 14.7),
        (QWEN_7B, "w8a16", 8.17),
        (QWEN_7B, "w4a16", 5.01),
    ],
)
def test_traffic_of_a_decoded_token(decoder: DecoderSizes, precision: Precision, gigabytes: float) -> None:
    """At 9,600 tokens of context, head and cache in fp16."""
    assert decoder_work(decoder, 1, 9_600, 1, precision).bytes / 1e9 == pytest.approx(gigabytes, rel=0.003)


def test_one_stage_is_ruled_by_one_of_two() -> None:
    work = Work(flops=6e9, bytes=2e9)
    slow_memory = stage("x", "call", 3, work, Rates(flops_s=1e10, bytes_s=1e9))
    assert (slow_memory.compute_s, slow_memory.bandwidth_s) == (0.6, 2.0)
    assert (slow_memory.each_s, slow_memory.bound) == (2.0, "bandwidth")
    fast_memory = stage("x", "call", 3, work, Rates(flops_s=1e10, bytes_s=1e10))
    assert (fast_memory.each_s, fast_memory.bound) == (0.6, "compute")
    assert stage("x", "call", 3, work, None).each_s is None
    core = stage("x", "call", 3, work, Rates(flops_s=1e10, bytes_s=1e9, overlap=False))
    assert (core.each_s, core.bound) == (2.6, "bandwidth")


def figure(value: float) -> Figure:
    return Figure(value=value, source="made up", verified=False)


def test_rates_are_shares_of_peak_and_bandwidth() -> None:
    peaks = {"fp32": figure(2.0), "int8": figure(8.0)}
    made_up = Target(
        name="x",
        title="x",
        kind="cpu",
        cores=4,
        bandwidth_gb_s=figure(100.0),
        dense_tops=peaks,
        compute_share=figure(0.5),
        bandwidth_share=figure(0.8),
    )
    assert rates(made_up, "fp32") == Rates(flops_s=1e12, bytes_s=8e10, overlap=False)
    for whole in ("w8a8", "int8"):
        assert rates(made_up, whole) == Rates(flops_s=4e12, bytes_s=8e10, overlap=False)
    # no fp16 unit: what fp32 does
    assert rates(made_up, "w4a16") == Rates(flops_s=1e12, bytes_s=8e10, overlap=False)
    assert rates(made_up, "fp32", threads=1) == Rates(flops_s=2.5e11, bytes_s=8e10, overlap=False)
    assert rates(find_target("cpu"), "fp32") is None
    on_a_gpu = rates(find_target("h200"), "fp16")
    assert on_a_gpu is not None
    assert on_a_gpu.overlap


@pytest.mark.parametrize(
    ("target", "decoder", "prefill_ms", "tokens_s"),
    [
        ("agx-orin-64gb", QWEN3_1_7B, 308, 89.5),
        ("agx-orin-64gb", QWEN3_4B, 762, 50.7),
        ("agx-orin-64gb", QWEN3_8B, 1384, 30.6),
        ("orin-nx-16gb", QWEN3_1_7B, 674, 52.2),
        ("orin-nx-16gb", QWEN3_4B, 1881, 29.2),
        ("orin-nx-16gb", QWEN3_8B, 2944, 17.5),
        ("orin-nano-8gb", QWEN3_1_7B, 1021, 32.3),
        ("thor-t5000", QWEN3_1_7B, 145, 135.0),
        ("thor-t5000", QWEN3_8B, 663, 46.4),
    ],
)
def test_published_runs_of_language_models(
    target: str, decoder: DecoderSizes, prefill_ms: float, tokens_s: float
) -> None:
    """TensorRT Edge-LLM 0.10.0, 4-bit weights, batch 1: prefill of 2,048 tokens, decoding behind them."""
    at = rates(find_target(target), "w4a16")
    prefill = stage("prefill", "call", 1, decoder_work(decoder, 2048, 1024, 1, "w4a16"), at)
    decode = stage("decode", "step", 1, decoder_work(decoder, 1, 2048, 1, "w4a16"), at)
    assert prefill.bound == "compute"
    assert prefill.each_s == pytest.approx(prefill_ms / 1e3, rel=0.12)
    assert decode.bound == "bandwidth"
    assert decode.each_s == pytest.approx(1 / tokens_s, rel=0.12)


@pytest.mark.parametrize(
    ("target", "ms"), [("agx-orin-64gb", 53.0), ("orin-nx-16gb", 110.5)], ids=["AGX Orin", "Orin NX"]
)
def test_published_runs_of_a_tower_of_the_same_shape(target: str, ms: float) -> None:
    """Qwen3-VL-8B has 27 layers of 1152 too; 265 tokens are 1,060 patches. The shares come from the runs above."""
    work = vision_work(TOWER, 1060, 1, "fp16")
    found = stage("vision", "call", 1, work, rates(find_target(target), "fp16"))
    assert found.each_s == pytest.approx(ms / 1e3, rel=0.15)
