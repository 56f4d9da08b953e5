"""Choose the graphs of a bundle for a campaign, build engines for them, and check them against the references."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge_sdk.benchmarks.campaign.order import Order
from edge_sdk.benchmarks.campaign.rows import Lines, Row
from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import Adapter, Language
from edge_sdk.engine.shapes import Limits
from edge_sdk.engine.tensorrt_library import PACKAGES, runtime_dialects
from edge_sdk.errors import BundleError, ConfigError, EngineError, RuntimeFailure
from edge_sdk.toolchain.building import BuildOptions, BuildReport, build
from edge_sdk.types import Dialect, Value
from edge_sdk.verify import verify
from edge_sdk.verify.answers import ChainCheck, check_chain
from edge_sdk.verify.graphs import OutputCheck
from edge_sdk.verify.reference_files import load_chain


class Chosen(Value, frozen=True, kw_only=True):
    """The graphs of one dialect to measure: those of the first adapter and of the profile with the most frames.

    `slots` are the decoder's; the names are None where the bundle has no such part.
    """

    dialect: Dialect
    student: str | None = None
    vision: str | None = None
    projector: str | None = None
    decoder: str | None = None
    slots: int = 0

    @property
    def graphs(self) -> tuple[str, ...]:
        """The names that are not None."""
        return tuple(filter(None, (self.student, self.vision, self.projector, self.decoder)))


def choose(bundle: Bundle, order: Order) -> Chosen:
    """The graphs that `order` measures.

    The decoder is the one with the fewest slots that hold the context and the tokens after it, or else with the most.
    Raises `BundleError` where a part has no graph of the dialect that the runtime reads.
    """
    dialect = runtime_dialects(order.runtime_name)[0]
    student, language = bundle.manifest.student, bundle.manifest.language
    chosen = Chosen(dialect=dialect, student=student.graph if student else None)
    if language is None:
        return chosen
    adapter = first_adapter(language)
    profile = max(language.profiles.values(), key=lambda each: each.frames)
    decoders = [each for each in language.decoders[adapter.decoder].graphs if each.dialect == dialect]
    if dialect not in profile.graphs or dialect not in adapter.projector or not decoders:
        raise BundleError(
            f"bundle {bundle.manifest.name!r}: expected vision, projector and decoder graphs of the {dialect} dialect, "
            f"which {order.runtime} reads; export it with --dialect {dialect}"
        )
    amounts = order.amounts
    needed = amounts.context + amounts.warm_tokens + amounts.tokens
    known = sorted(decoders, key=lambda each: each.slots)
    decoder = next((each for each in known if each.slots >= needed), known[-1])
    return msgspec.structs.replace(
        chosen,
        vision=profile.graphs[dialect],
        projector=adapter.projector[dialect],
        decoder=decoder.graph,
        slots=decoder.slots,
    )


def first_adapter(language: Language) -> Adapter:
    """The adapter that is measured: the first by name."""
    return language.adapters[min(language.adapters)]


def engines(bundle: Bundle, order: Order, lines: Lines, chosen: Chosen) -> Iterator[Row]:
    """Build the missing engines, with the builder that compares each with the bundle.

    If an engine cannot be built, the others still are.
    """
    try:
        reports, refused = [_built(order, chosen.graphs)], []
    except (EngineError, RuntimeFailure):
        tried = {graph: _tried(order, graph) for graph in chosen.graphs}
        reports = [each for each in tried.values() if isinstance(each, BuildReport)]
        refused = [f"{graph}: {each}" for graph, each in tried.items() if isinstance(each, str)]
    built = [each for report in reports for each in report.engines]
    told = [
        f"{each.graph} {each.size_mb:,.0f} MB {'cached' if each.cached else f'{each.build_s:.1f} s'}" for each in built
    ]
    notes = {f"TensorRT {each.tensorrt}; {each.note or 'compared with the bundle after building'}" for each in reports}
    yield msgspec.structs.replace(
        lines.row("engines"),
        value=sum(each.build_s for each in built),
        unit="s to build",
        found="; ".join([*told, *refused]),
        ok=not refused,
        method="; ".join(notes),
    )


def _tried(order: Order, graph: str) -> BuildReport | str:
    try:
        return _built(order, (graph,))
    except (EngineError, RuntimeFailure) as error:
        return str(error)


def _built(order: Order, graphs: tuple[str, ...]) -> BuildReport:
    flavour = next(name for name in PACKAGES if name == order.runtime_name)
    options = BuildOptions(graphs=graphs, limits=Limits(chunk=order.amounts.chunk))
    engines = Path(order.engines) if order.engines else None
    return build(Path(order.folder), flavour, cache=engines, options=options, quiet=True)


def outputs(bundle: Bundle, order: Order, lines: Lines, chosen: Chosen) -> Iterator[Row]:
    """Compare every chosen graph with its reference outputs."""
    report = verify(bundle, order.runtime_name, order.options, graphs=chosen.graphs, dialects=(chosen.dialect,))
    found = "; ".join(_worst(name, report.outputs) for name in dict.fromkeys(each.graph for each in report.outputs))
    bare = [f"{name}: no reference" for name in report.without_reference]
    bare += [f"{name}: {why}" for name, why in report.not_built.items()]
    yield msgspec.structs.replace(
        lines.row("outputs"),
        value=max((each.relative_error or 0.0 for each in report.outputs), default=None),
        unit="worst relative error",
        found="; ".join([found, *bare]),
        ok=report.ok and not report.not_built,
        method=f"{len(report.outputs)} outputs, graphs {', '.join(chosen.graphs)}, against reference/",
    )


def answers(bundle: Bundle, order: Order, lines: Lines, chosen: Chosen) -> Iterator[Row]:
    """Check the first adapter's answer to its reference clip, from patches to tokens."""
    language = bundle.manifest.language
    name = min(language.adapters) if language else ""
    reference = language.adapters[name].reference if language else None
    if reference is None:
        raise ConfigError(f"adapter {name!r} has no reference answer in this bundle; export it again")
    case = load_chain(bundle.path(reference.file))
    checks = check_chain(
        _narrowed(bundle, chosen),
        name,
        case,
        reference.profile,
        reference.max_relative_error,
        order.runtime_name,
        order.options,
        (chosen.dialect,),
    )
    yield msgspec.structs.replace(
        lines.row("answers"),
        value=max((each.relative_error or 0.0 for each in checks), default=None),
        unit="worst relative error",
        found="; ".join(map(_told, checks)),
        ok=bool(checks) and all(each.ok for each in checks),
        method=f"{len(case.tokens)} tokens behind a prompt of {len(case.ids)}, each step given the reference's token",
    )


def _narrowed(bundle: Bundle, chosen: Chosen) -> Bundle:
    """`bundle` with only the chosen decoder, so that the engine that was built gives the answer."""
    language = bundle.manifest.language
    if language is None:
        return bundle
    decoders = {
        name: msgspec.structs.replace(each, graphs=tuple(g for g in each.graphs if g.graph == chosen.decoder))
        for name, each in language.decoders.items()
    }
    narrowed = msgspec.structs.replace(language, decoders=decoders)
    return msgspec.structs.replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, language=narrowed))


def _worst(graph: str, checks: tuple[OutputCheck, ...]) -> str:
    own = [each for each in checks if each.graph == graph]
    problem = next((each.problem for each in own if each.problem), None)
    return f"{graph}: {problem or format(max(each.relative_error or 0.0 for each in own), '.2g')}"


def _told(check: ChainCheck) -> str:
    return check.problem or f"{check.equal_tokens} of {check.steps} tokens equal, {check.near_ties} nearly"
