"""Compare whole answers on a runtime with the answers that the checkpoint gives in float32.

Every graph may be right and the answer still wrong: rows merged at the wrong tokens, a mask off by one, a cache that is
written and read at different places. Every step is fed the reference's token rather than its own, so that one near tie
does not spoil the comparison of the following steps.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from math import inf

import numpy as np

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import Adapter, DecoderGraph, Language
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.reasoning.chain import CachedDecoder, Widths, encode_frames
from edge_sdk.reasoning.embedding import EmbeddingTable
from edge_sdk.reasoning.patches import kept_tokens, normalised
from edge_sdk.reasoning.tuned import lora_feeds
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import Array, Session, SessionOptions
from edge_sdk.types import Dialect, Value
from edge_sdk.verify.comparison import Comparison, compare
from edge_sdk.verify.reference_files import ChainCase

# Shorter than a prompt, so that the prompt takes several calls and the check covers the cache between them.
WIDTHS = Widths(prefill=96, step=1)


class ChainCheck(Value, frozen=True, kw_only=True):
    """One adapter's answer through one decoder graph, and the vision tower and projector of the same dialect.

    `relative_error` is the error of the worst step on the reference's top logits, `cosine` the lowest of all steps. A
    token counts as equal, or as a near tie if the reference's own logits for both tokens lie within the tolerance. Both
    errors are None where `problem` says why they have no value.
    """

    adapter: str
    graph: str
    steps: int
    equal_tokens: int
    near_ties: int
    relative_error: float | None
    max_relative_error: float
    cosine: float | None
    problem: str | None
    ok: bool

    def __str__(self) -> str:
        name = f"answer of {self.adapter} by {self.graph}"
        if self.problem:
            return f"{name}: {self.problem}"
        return (
            f"{name}: {self.equal_tokens} of {self.steps} tokens equal and {self.near_ties} nearly, relative error "
            f"{self.relative_error:.3g}, at most {self.max_relative_error:g} allowed"
        )


def check_chain(
    bundle: Bundle,
    name: str,
    case: ChainCase,
    profile: str,
    tolerance: float,
    runtime: str,
    options: SessionOptions,
    dialects: Collection[Dialect],
    unbuilt: Collection[str] = (),
) -> list[ChainCheck]:
    """Run `case`, a clip of `profile`, through the adapter `name` in each of `dialects` for which it has all graphs.

    `unbuilt` are graphs for which the runtime has no engine. Raises `BundleError` for a case that does not fit the
    bundle, `MissingDependencyError`, and `RuntimeFailure` if a graph does not open or run.
    """
    language = _language(bundle)
    adapter = language.adapters[name]
    found = []
    for dialect, vision in language.profiles[profile].graphs.items():
        tokens = len(case.ids) + len(case.tokens) + WIDTHS.prefill
        decoder, projector = _decoder(language, adapter, dialect, tokens, unbuilt), adapter.projector.get(dialect)
        if decoder and projector and dialect in dialects and not {vision, projector} & set(unbuilt):
            chain = _Chain(bundle, language, adapter, runtime, options)
            try:
                images = chain.images(case, vision, projector)
                logits = chain.answer(case, decoder, images)
            except ConfigError as error:
                raise BundleError(f"the reference answer of {name!r} does not fit its bundle: {error}") from error
            found.append(compare_answer(name, decoder.graph, case, logits, tolerance))
    return found


class _Chain:
    """An adapter's graphs, each open only while it runs, because together they may not fit in memory."""

    def __init__(
        self, bundle: Bundle, language: Language, adapter: Adapter, runtime: str, options: SessionOptions
    ) -> None:
        self._bundle, self._language, self._adapter = bundle, language, adapter
        self._runtime, self._options = open_runtime(runtime), options
        self._dtype = np.dtype(language.dtype)

    def images(self, case: ChainCase, vision: str, projector: str) -> Array:
        """Return the decoder's input rows `[m, hidden]` for the image tokens that compression keeps."""
        language = self._language
        patches = normalised(case.patches, language.pixel_mean, language.pixel_std)
        with closing(self._open(vision)) as session:
            tokens = encode_frames(session, patches.astype(self._dtype))
        kept = tokens[kept_tokens(patches, language.compression)]
        with closing(self._open(projector)) as session:
            return session.run({"tokens": kept})["embeds"]

    def answer(self, case: ChainCase, decoder: DecoderGraph, images: Array) -> list[Array]:
        """Return the logits `[vocab]` of each step."""
        language, graph = self._language, self._bundle.manifest.graphs[decoder.graph]
        table = EmbeddingTable.open(self._bundle.path(language.embedding.file), language.embedding)
        lora = self._bundle.path(self._adapter.lora) if self._adapter.lora else None
        with closing(self._open(decoder.graph)) as session:
            loop = CachedDecoder(
                session,
                graph.state,
                table,
                image_token=language.image_token,
                fixed=lora_feeds(lora, session.inputs, graph.state),
                widths=WIDTHS,
            )
            logits = [loop.prefill(case.ids, images)]
            logits += [loop.step(int(token)) for token in case.tokens[:-1]]
        return logits

    def _open(self, name: str) -> Session:
        graph, path = self._bundle.graph(name)
        return self._runtime.open(path, graph, self._options)


def _language(bundle: Bundle) -> Language:
    if bundle.manifest.language is None:
        raise BundleError(f"bundle {bundle.manifest.name!r} has no language model")
    return bundle.manifest.language


def _decoder(
    language: Language, adapter: Adapter, dialect: Dialect, tokens: int, unbuilt: Collection[str]
) -> DecoderGraph | None:
    """Return the adapter's smallest decoder with slots for `tokens`; None if none of the dialect can be opened.

    Raises `BundleError` if all decoders of the dialect have too few slots.
    """
    known = [graph for graph in language.decoders[adapter.decoder].graphs if graph.dialect == dialect]
    large = [graph for graph in known if graph.slots >= tokens]
    if known and not large:
        raise BundleError(f"decoder {adapter.decoder!r}: expected a {dialect} graph of {tokens} slots, found none")
    return min((each for each in large if each.graph not in unbuilt), key=lambda each: each.slots, default=None)


def compare_answer(adapter: str, graph: str, case: ChainCase, logits: Sequence[Array], tolerance: float) -> ChainCheck:
    """Compare `logits`, which `graph` gave as `[vocab]` for each step, with `case`."""
    steps = [_step(case, index, found) for index, found in enumerate(logits)]
    problem = next((f"step {i}: {step.problem}" for i, step in enumerate(steps) if step.problem), None)
    margins = [_margin(case, index, int(found.argmax())) for index, found in enumerate(logits)]
    equal, near = margins.count(0.0), sum(0.0 < margin <= tolerance for margin in margins)
    errors = [step.relative_error for step in steps if step.relative_error is not None]
    cosines = [step.cosine for step in steps if step.cosine is not None]
    error = max(errors) if errors and not problem else None
    return ChainCheck(
        adapter=adapter,
        graph=graph,
        steps=len(steps),
        equal_tokens=equal,
        near_ties=near,
        relative_error=error,
        max_relative_error=tolerance,
        cosine=min(cosines) if cosines and not problem else None,
        problem=problem,
        ok=error is not None and error <= tolerance and equal + near == len(case.tokens),
    )


def _step(case: ChainCase, index: int, logits: Array) -> Comparison:
    if case.top_ids[index].min() < 0 or case.top_ids[index].max() >= len(logits):
        raise BundleError(f"the reference answer has ids outside the {len(logits)} of the decoder's logits")
    bad = int(logits.size - np.isfinite(logits).sum())
    if bad:
        return Comparison(relative_error=None, cosine=None, problem=f"{bad} of {logits.size} logits are not finite")
    return compare(logits[case.top_ids[index]], case.top_logits[index])


def _margin(case: ChainCase, index: int, token: int) -> float:
    """Return how far `token` lies below the best token in the reference's logits, relative to the largest logit.

    It is 0 for the best token itself, and infinite for a token outside the reference's top ids.
    """
    ids, logits = case.top_ids[index], case.top_logits[index]
    if token == ids[0]:
        return 0.0
    known = logits[ids == token]
    if not known.size:
        return inf
    return max(float(logits[0] - known[0]) / float(np.abs(logits).max()), float(np.finfo(np.float64).tiny))
