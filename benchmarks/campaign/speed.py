"""Measure the speed of one runtime on one bundle: the student, vision, and the decoder with its cache.

Every measured time runs from arrays in the host's pageable memory to results in the host's memory, as in real use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.benchmarks.campaign.checks import Chosen, first_adapter
from edge_sdk.benchmarks.campaign.figures import VISION, decode_row, prefill_row, repeated, vision_row
from edge_sdk.benchmarks.campaign.limits import Cost
from edge_sdk.benchmarks.campaign.order import Order
from edge_sdk.benchmarks.campaign.rows import Lines, Row
from edge_sdk.benchmarks.measure import Limits
from edge_sdk.benchmarks.scenarios import moving_pictures, run_scenario
from edge_sdk.bundle import Bundle
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.hardware.bundled import model_numbers
from edge_sdk.hardware.numbers import ReasoningNumbers, widened
from edge_sdk.perception.recogniser import Recogniser
from edge_sdk.reasoning.chain import CachedDecoder, Widths
from edge_sdk.reasoning.embedding import EmbeddingTable
from edge_sdk.reasoning.tuned import lora_feeds
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import Session

_NS_PER_S = 1e9


class Measured(NamedTuple):
    """The bundle and graphs to measure, and the writer of their rows."""

    bundle: Bundle
    order: Order
    lines: Lines
    chosen: Chosen

    def open(self, name: str) -> Session:
        """Open the graph called `name` with the order's runtime."""
        graph, path = self.bundle.graph(name)
        return open_runtime(self.order.runtime_name).open(path, graph, self.order.options)

    def numbers(self) -> ReasoningNumbers:
        """The numbers of the video LLM as this runtime computes it: a CPU widens half precision."""
        numbers = model_numbers(self.bundle)
        reasoning = (widened(numbers) if self.order.options.device == "cpu" else numbers).reasoning
        if reasoning is None:
            raise BundleError(f"bundle {self.bundle.manifest.name!r} has no language model")
        return reasoning


def student_row(measured: Measured) -> Iterator[Row]:
    """Time the student on one stream, from a luma picture to scores."""
    amounts, order = measured.order.amounts, measured.order
    limits = Limits(amounts.student_warm_s, amounts.student_s, amounts.student_frames)
    recogniser = Recogniser(measured.bundle, order.runtime_name, options=order.options)
    with closing(recogniser):
        student = recogniser.student
        samples = run_scenario("single", recogniser, moving_pictures(student.height, student.width), limits, fps=1.0)
    seconds = (samples.latency / _NS_PER_S).tolist()
    yield measured.lines.timed(
        "student",
        seconds,
        value=1 / float(np.mean(seconds)),
        unit="frames/s",
        method=f"n = {len(seconds)} after {limits.warmup_s:g} s; planes and run, one stream back to back",
    )


def vision_rows(measured: Measured) -> Iterator[Row]:
    """Frames per second of the vision tower, with one and with eight frames at a time."""
    order, numbers, name = measured.order, measured.numbers(), _named(measured.chosen.vision)
    spec = measured.bundle.manifest.graphs[name].inputs[0]
    with closing(measured.open(name)) as session:
        for what, frames in VISION:
            shape = tuple(frames if isinstance(d, str) else d for d in spec.shape)
            feeds = {spec.name: np.random.default_rng(0).uniform(-1, 1, shape).astype(spec.dtype)}
            seconds = repeated(partial(session.run, feeds), order.amounts.vision_warm, order.amounts.vision_runs)
            yield vision_row(
                order, measured.lines, what, frames, seconds, numbers.vision, shape[1], numbers.vision_precision
            )


def decoder_rows(measured: Measured) -> Iterator[Row]:
    """Prefill of a context in chunks, then decoding of single tokens after it."""
    order, numbers, name = measured.order, measured.numbers(), _named(measured.chosen.decoder)
    amounts, context, how = order.amounts, fitting_context(measured.chosen.slots, order), _cache(measured)
    cost = Cost(
        sizes=numbers.decoder,
        precision=numbers.precision,
        head_bits=numbers.head_bits,
        kv_bits=numbers.kv_bits,
        lora_values=numbers.lora_values if numbers.switchable else 0,
    )
    with closing(measured.open(name)) as session:
        decoder = _decoder(measured, session, name)
        whole = partial(_prefill, decoder, _ids(numbers.decoder.vocab, context), amounts.chunk)
        passes = repeated(whole, amounts.warm_passes, amounts.passes)
        yield prefill_row(order, measured.lines, passes, cost, context, how)
        steps = repeated(partial(decoder.step, 1), amounts.warm_tokens, amounts.tokens)
    yield decode_row(order, measured.lines, steps, cost, context, how)


def fitting_context(slots: int, order: Order) -> int:
    """The most context tokens, in whole chunks, that are requested and fit. Raises `ConfigError` if no chunk fits."""
    amounts = order.amounts
    room = min(amounts.context, slots - amounts.warm_tokens - amounts.tokens)
    context = room // amounts.chunk * amounts.chunk
    if context < amounts.chunk:
        raise ConfigError(
            f"expected room for a chunk of {amounts.chunk} and {amounts.warm_tokens + amounts.tokens} tokens in "
            f"{slots} slots; ask for fewer tokens, a smaller chunk, or export more slots"
        )
    return context


def _decoder(measured: Measured, session: Session, name: str) -> CachedDecoder:
    language = measured.bundle.manifest.language
    if language is None:
        raise BundleError(f"bundle {measured.bundle.manifest.name!r} has no language model")
    state = measured.bundle.manifest.graphs[name].state
    lora = first_adapter(language).lora
    return CachedDecoder(
        session,
        state,
        EmbeddingTable.open(measured.bundle.path(language.embedding.file), language.embedding),
        image_token=language.image_token,
        fixed=lora_feeds(measured.bundle.path(lora) if lora else None, session.inputs, state),
        widths=Widths(prefill=measured.order.amounts.chunk, step=1),
    )


def _ids(vocab: int, count: int) -> NDArray[np.int64]:
    """Random text tokens from the lower half of the vocabulary, which has no image tokens."""
    return np.random.default_rng(0).integers(0, vocab // 2, count)


def _prefill(decoder: CachedDecoder, ids: NDArray[np.int64], chunk: int) -> None:
    """Prefill an empty cache with `ids`."""
    images = np.zeros((0, 1), np.float16)
    decoder.restart()
    for start in range(0, len(ids), chunk):
        decoder.prefill(ids[start : start + chunk], images)


def _cache(measured: Measured) -> str:
    return f"{measured.chosen.slots} slots, {measured.chosen.dialect}"


def _named(graph: str | None) -> str:
    if graph is None:
        raise BundleError("the bundle has no such graph")
    return graph
