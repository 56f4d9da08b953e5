"""Make the rows of vision, prefill and decode from measured times, alike for every runtime and for transformers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from edge_sdk.benchmarks.campaign.limits import Cost, limit
from edge_sdk.benchmarks.campaign.order import Order
from edge_sdk.benchmarks.campaign.rows import Lines, Row, with_share
from edge_sdk.bundle.model_sizes import VisionSizes
from edge_sdk.hardware.roofline import Precision, vision_work

VISION: tuple[tuple[str, int], ...] = (("vision, 1 frame", 1), ("vision, 8 frames", 8))
VISION_NAMES = tuple(name for name, _ in VISION)
PREFILL, DECODE = "prefill", "decode"


# object: the timed call may return anything.
def repeated(call: Callable[[], object], warm: int, count: int) -> list[float]:
    """Seconds of each of `count` calls, after `warm` calls that do not count."""
    for _ in range(warm):
        call()
    found = []
    for _ in range(count):
        begin_s = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin_s)
    return found


def vision_row(
    order: Order,
    lines: Lines,
    what: str,
    frames: int,
    seconds: Sequence[float],
    sizes: VisionSizes,
    patches: int,
    precision: Precision,
) -> Row:
    """Frames per second for runs of `frames` frames of `patches` patches that took `seconds` each."""
    mean_s = float(np.mean(seconds))
    row = lines.timed(
        what,
        seconds,
        value=frames / mean_s,
        unit="frames/s",
        method=f"n = {len(seconds)} after {order.amounts.vision_warm}; {patches} patches a frame, {precision}",
    )
    flops = vision_work(sizes, patches, frames, precision).flops
    return with_share(row, *limit(order.target, precision, order.threads).of_peak(flops, mean_s))


def prefill_row(order: Order, lines: Lines, seconds: Sequence[float], cost: Cost, context: int, how: str) -> Row:
    """Tokens per second for passes over `context` tokens in chunks that took `seconds` each."""
    amounts, mean_s = order.amounts, float(np.mean(seconds))
    row = lines.timed(
        PREFILL,
        seconds,
        value=context / mean_s,
        unit="tokens/s",
        method=f"{context} tokens in chunks of {amounts.chunk}, {how}, {cost.precision}; "
        f"n = {len(seconds)} passes after {amounts.warm_passes}",
    )
    flops = cost.prefill_flops(context, amounts.chunk)
    return with_share(row, *limit(order.target, cost.precision, order.threads).of_peak(flops, mean_s))


def decode_row(order: Order, lines: Lines, seconds: Sequence[float], cost: Cost, context: int, how: str) -> Row:
    """Tokens per second for single tokens after `context` that took `seconds` each."""
    amounts, mean_s = order.amounts, float(np.mean(seconds))
    row = lines.timed(
        DECODE,
        seconds,
        value=1 / mean_s,
        unit="tokens/s",
        method=f"batch 1 behind {context} tokens, {how}, {cost.precision}; "
        f"n = {len(seconds)} after {amounts.warm_tokens}",
    )
    attended = context + amounts.warm_tokens + len(seconds) / 2
    return with_share(
        row, *limit(order.target, cost.precision, order.threads).of_bandwidth(cost.call(1, attended).bytes, mean_s)
    )
