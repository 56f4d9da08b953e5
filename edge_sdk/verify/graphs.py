"""Compare the outputs of one graph on a runtime with their reference values."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest import Graph
from edge_sdk.errors import BundleError
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import Array, Session, SessionOptions
from edge_sdk.types import StateSpec, Value
from edge_sdk.verify.comparison import compare
from edge_sdk.verify.reference_files import load_inputs, load_reference, widened


class OutputCheck(Value, frozen=True, kw_only=True):
    """One output compared with its reference.

    `relative_error` is max |a - b| / max |b|, and `cosine` the cosine similarity of the two as vectors. Both are None
    where `problem` says why they have no value.
    """

    graph: str
    output: str
    relative_error: float | None
    max_relative_error: float
    cosine: float | None
    problem: str | None
    ok: bool

    def __str__(self) -> str:
        name = f"{self.graph}/{self.output}"
        if self.problem:
            return f"{name}: {self.problem}"
        return f"{name}: relative error {self.relative_error:.3g}, at most {self.max_relative_error:g} allowed"


class GraphCase(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The inputs of a graph and its expected outputs, by name.

    State inputs that are not given start as zeros. `inputs_from` is a file of the bundle with more inputs.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    inputs_from: str | None = None
    max_relative_error: float


def reference_case(bundle: Bundle, name: str) -> GraphCase | None:
    """Return the bundle's own case for the graph `name`; None if it has none.

    Raises `UnknownNameError` for an unknown graph, and `BundleError` for a file that cannot be used.
    """
    graph, _ = bundle.graph(name)
    reference = graph.reference
    if reference is None:
        return None
    inputs, outputs = load_reference(bundle.path(reference.file))
    unknown = outputs.keys() - {spec.name for spec in graph.outputs}
    if unknown or not outputs:
        raise BundleError(f"{reference.file}: expected outputs of the graph {name!r}, found {sorted(outputs)}")
    return GraphCase(
        inputs=inputs,
        outputs=outputs,
        inputs_from=reference.inputs_from,
        max_relative_error=reference.max_relative_error,
    )


def why_unbuilt(bundle: Bundle, name: str, runtime: str, options: SessionOptions) -> str | None:
    """Return why the graph `name` must be built before the runtime can open it; None if it can be opened."""
    _, path = bundle.graph(name)
    return open_runtime(runtime).why_unbuilt(path, options)


def check_graph(bundle: Bundle, name: str, case: GraphCase, runtime: str, options: SessionOptions) -> list[OutputCheck]:
    """Run the graph `name` on `case` and compare every output in `case`.

    Raises `MissingDependencyError`, `BundleError`, and `RuntimeFailure` if the graph does not open or run.
    """
    graph, path = bundle.graph(name)
    inputs = widened(case.inputs, graph.inputs)
    if case.inputs_from:
        missing = [spec for spec in graph.inputs if spec.name not in inputs]
        inputs |= load_inputs(bundle.path(case.inputs_from), missing)
    with closing(open_runtime(runtime).open(path, graph, options)) as session:
        found = _run(session, graph, inputs, case.outputs)
    return check_outputs(name, found, case)


def check_outputs(graph: str, found: Mapping[str, Array], case: GraphCase) -> list[OutputCheck]:
    """Compare the outputs `found` of `graph` with every output in `case`."""
    return [_checked(graph, output, found[output], case) for output in sorted(case.outputs)]


def _checked(graph: str, output: str, found: Array, case: GraphCase) -> OutputCheck:
    comparison = compare(found, case.outputs[output])
    return OutputCheck(
        graph=graph,
        output=output,
        relative_error=comparison.relative_error,
        max_relative_error=case.max_relative_error,
        cosine=comparison.cosine,
        problem=comparison.problem,
        ok=comparison.within(case.max_relative_error),
    )


def _run(session: Session, graph: Graph, inputs: Mapping[str, Array], wanted: Mapping[str, Array]) -> dict[str, Array]:
    """Return outputs by name. State is bound, as on a device, and the state outputs in `wanted` are read back."""
    if not graph.state:
        return session.run(inputs)
    kept = {entry.input for entry in graph.state}
    bound = session.bind_state(graph.state, _free_lengths(graph, inputs))
    for name in kept & inputs.keys():
        bound.write(name, inputs[name])
    found = bound.run({name: array for name, array in inputs.items() if name not in kept})
    for entry in graph.state:
        if entry.output in wanted:
            found[entry.output] = _written(bound.read(entry.input), entry, inputs, wanted[entry.output])
    return found


def _free_lengths(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, int]:
    lengths: dict[str, int] = {}
    for spec in graph.inputs:
        if spec.name in inputs and inputs[spec.name].ndim == len(spec.shape):
            pairs = zip(spec.shape, inputs[spec.name].shape, strict=True)
            lengths |= {dim: length for dim, length in pairs if isinstance(dim, str)}
    return lengths


def _written(buffer: Array, entry: StateSpec, inputs: Mapping[str, Array], wanted: Array) -> Array:
    """Return what a call wrote into a state's `buffer`: all of it, or the rows that were appended."""
    if entry.kind == "alias" or entry.axis is None or entry.index is None:
        return buffer
    start = int(inputs[entry.index].reshape(-1)[0])
    rows = slice(start, start + wanted.shape[entry.axis])
    return buffer[(slice(None),) * entry.axis + (rows,)]
