"""The lengths an engine is built for: a range for each free dimension of a graph, by the graph's role.

An engine accepts only shapes inside its profiles, and is fastest at the shape each was tuned for. Decoding is tuned for
a few rows, prefill for a chunk; both are profiles of one engine, so that memory holds the weights once.
"""

from __future__ import annotations

from edge_sdk.bundle.manifest import Graph, Manifest
from edge_sdk.bundle.manifest_language import Language
from edge_sdk.call_sizes import DECODE_ROWS, PREFILL_TOKENS
from edge_sdk.errors import UnknownNameError
from edge_sdk.types import Value


class Lengths(Value, frozen=True, kw_only=True):
    """The smallest and largest length of a dimension, and `best`, the length to tune for."""

    smallest: int
    best: int
    largest: int

    def __post_init__(self) -> None:
        if not 1 <= self.smallest <= self.best <= self.largest:
            raise ValueError(f"lengths must rise from 1: {self.smallest}, {self.best}, {self.largest}")


class ShapeProfile(Value, frozen=True, kw_only=True):
    """One profile of an engine: its name, and the lengths by name of the free dimension."""

    name: str
    lengths: dict[str, Lengths]


class Limits(Value, frozen=True, kw_only=True):
    """The most that a device processes in one call.

    Up to `streams` cameras share the student, `frames` are encoded together, `chunk` tokens prefilled, and `branches`
    answers decoded. The defaults of `chunk` and `branches` match the calls of a reasoner.
    """

    streams: int = 4
    frames: int = 8
    chunk: int = PREFILL_TOKENS
    branches: int = DECODE_ROWS


def shape_profiles(manifest: Manifest, name: str, limits: Limits | None = None) -> tuple[ShapeProfile, ...]:
    """Return the profiles for the graph `name`; empty for a graph whose dimensions are all fixed.

    Raises `UnknownNameError` for a graph that the manifest does not have or that no component uses.
    """
    if name not in manifest.graphs:
        raise UnknownNameError("graph", name, list(manifest.graphs))
    found = _profiles(manifest, name, limits or Limits())
    free = _free_dimensions(manifest.graphs[name])
    return tuple(
        ShapeProfile(name=each.name, lengths={key: value for key, value in each.lengths.items() if key in free})
        for each in found
        if free
    )


def input_shapes(graph: Graph, profile: ShapeProfile) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Return the smallest, best and largest shape of every input that has a free dimension."""
    return {
        spec.name: tuple(
            tuple(getattr(profile.lengths[d], size) if isinstance(d, str) else d for d in spec.shape)
            for size in ("smallest", "best", "largest")
        )
        for spec in graph.inputs
        if any(isinstance(d, str) for d in spec.shape)
    }


def _free_dimensions(graph: Graph) -> set[str]:
    return {d for spec in graph.inputs for d in spec.shape if isinstance(d, str)}


def _profiles(manifest: Manifest, name: str, limits: Limits) -> tuple[ShapeProfile, ...]:
    if manifest.student and manifest.student.graph == name:
        return (ShapeProfile(name="student", lengths={"streams": _up_to(limits.streams, best=1)}),)
    language = manifest.language
    if language is None:
        raise UnknownNameError("graph of a component", name, [manifest.student.graph] if manifest.student else [])
    if any(name in profile.graphs.values() for profile in language.profiles.values()):
        return (ShapeProfile(name="vision", lengths={"frames": _up_to(limits.frames, best=1)}),)
    if any(name in adapter.projector.values() for adapter in language.adapters.values()):
        tokens = _largest_frame(language)
        return (ShapeProfile(name="projector", lengths={"n": _up_to(limits.frames * tokens, best=tokens)}),)
    if any(name == each.graph for decoder in language.decoders.values() for each in decoder.graphs):
        rows = _up_to(limits.branches, best=limits.branches)
        return (
            ShapeProfile(name="decode", lengths={"q": rows, "r": rows}),
            ShapeProfile(name="prefill", lengths={"q": _up_to(limits.chunk, best=limits.chunk), "r": rows}),
        )
    raise UnknownNameError("graph of a component", name, list(manifest.graphs))


def _up_to(largest: int, *, best: int) -> Lengths:
    return Lengths(smallest=1, best=best, largest=largest)


def _largest_frame(language: Language) -> int:
    window = (language.patch * 2) ** 2
    return max(profile.width * profile.height // window for profile in language.profiles.values())
