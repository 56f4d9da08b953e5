"""Checks of feeds and rules for state that all runtimes share.

A wrong feed is refused here, in the manifest's terms, before a runtime sees it. Rows are appended by one rule here, so
all runtimes treat state the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_sdk.errors import RuntimeFailure
from edge_sdk.runtime import Array, Feeds
from edge_sdk.types import StateSpec, TensorSpec


def describe(spec: TensorSpec) -> str:
    """A tensor in words, such as `float32 [streams, 3, 192, 320]`."""
    return f"{spec.dtype} [{', '.join(str(d) for d in spec.shape)}]"


def describe_array(array: Array) -> str:
    """An array in the words of `describe`."""
    return f"{array.dtype} [{', '.join(str(d) for d in array.shape)}]"


def numpy_dtype(spec: TensorSpec) -> np.dtype[Any]:
    """The numpy type that holds `spec`. Raises `RuntimeFailure` for bfloat16, which numpy has no type for."""
    if spec.dtype == "bfloat16":
        raise RuntimeFailure(f"tensor {spec.name!r} is bfloat16, which numpy cannot hold; export it as float32")
    return np.dtype(spec.dtype)


def allocate(spec: TensorSpec, dims: Mapping[str, int]) -> Array:
    """A tensor of zeros for `spec`. Raises `RuntimeFailure` as `shape_of` and `numpy_dtype` do."""
    return np.zeros(shape_of(spec, dims), numpy_dtype(spec))


def shape_of(spec: TensorSpec, dims: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of `spec`. Raises `RuntimeFailure` naming a free dimension that is not in `dims`, or below 1."""
    shape = tuple(dims.get(d, 0) if isinstance(d, str) else d for d in spec.shape)
    for length, name in zip(shape, spec.shape, strict=True):
        if isinstance(name, str) and length < 1:
            raise RuntimeFailure(
                f"tensor {spec.name!r} is {describe(spec)}: a length of at least 1 is needed for {name!r}"
            )
    return shape


def check_feeds(specs: Sequence[TensorSpec], feeds: Feeds, dims: Mapping[str, int]) -> dict[str, int]:
    """Check feeds against the inputs that they are for; returns the length of every free dimension.

    `dims` are lengths that are already fixed, such as those that a state was bound with. Raises `RuntimeFailure` naming
    the tensor, what was expected and what was found.
    """
    names = {spec.name for spec in specs}
    if feeds.keys() != names:
        missing, unknown = sorted(names - feeds.keys()), sorted(feeds.keys() - names)
        raise RuntimeFailure(f"expected the inputs {sorted(names)}; missing: {missing}, unknown: {unknown}")
    known = dict(dims)
    for spec in specs:
        _check_feed(spec, feeds[spec.name], known)
    return known


def _check_feed(spec: TensorSpec, array: Array, known: dict[str, int]) -> None:
    if not isinstance(array, np.ndarray):
        raise RuntimeFailure(f"input {spec.name!r}: expected a numpy array, found {type(array).__name__}")
    if array.dtype != numpy_dtype(spec) or array.ndim != len(spec.shape):
        raise RuntimeFailure(f"input {spec.name!r}: expected {describe(spec)}, found {describe_array(array)}")
    for axis, (length, dim) in enumerate(zip(array.shape, spec.shape, strict=True)):
        expected = known.setdefault(dim, length) if isinstance(dim, str) else dim
        if length != expected:
            raise RuntimeFailure(
                f"input {spec.name!r}: expected {describe(spec)}, found {describe_array(array)}; "
                f"axis {axis} must be {expected} here"
            )


def state_problem(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], state: Sequence[StateSpec]
) -> str | None:
    """What is wrong with the state entries for these tensors, in one sentence; None if they all fit."""
    ins = {spec.name: spec for spec in inputs}
    outs = {spec.name: spec for spec in outputs}
    carried = {entry.input for entry in state}
    for entry in state:
        problem = _entry_problem(entry, ins, outs)
        if not problem and entry.index in carried:
            problem = f"its index {entry.index!r} is itself a state; expected an input that is given in every call"
        if problem:
            return f"state {entry.input!r}: {problem}"
    for used in ([entry.input for entry in state], [entry.output for entry in state]):
        if len(set(used)) != len(used):
            return f"a tensor is used by two state entries: {', '.join(used)}"
    return None


def _entry_problem(entry: StateSpec, ins: Mapping[str, TensorSpec], outs: Mapping[str, TensorSpec]) -> str | None:
    if entry.input not in ins:
        return f"no input has that name; inputs: {', '.join(ins)}"
    if entry.output not in outs:
        return f"no output is called {entry.output!r}; outputs: {', '.join(outs)}"
    if entry.index is not None and (entry.index not in ins or not ins[entry.index].dtype.startswith("int")):
        return f"its index {entry.index!r} is not an integer input"
    a, b = ins[entry.input], outs[entry.output]
    if entry.axis is not None and not 0 <= entry.axis < len(a.shape):
        return f"axis {entry.axis} is not one of {describe(a)}"
    skipped = entry.axis if entry.kind == "append" else None
    if a.dtype != b.dtype or len(a.shape) != len(b.shape):
        return f"input is {describe(a)}, output {entry.output!r} is {describe(b)}"
    if any(x != y for axis, (x, y) in enumerate(zip(a.shape, b.shape, strict=True)) if axis != skipped):
        return f"input is {describe(a)}, output {entry.output!r} is {describe(b)}"
    return None


def check_append(name: str, buffer: Sequence[int], rows: Sequence[int], index: Array, axis: int) -> None:
    """Raise `RuntimeFailure` unless rows of the shape `rows` fit into the shape `buffer` along `axis` at `index`.

    `index` has one value, or one per item of axis 0.
    """
    starts = index.reshape(-1)
    if starts.size != 1 and (axis == 0 or starts.size != buffer[0]):
        raise RuntimeFailure(f"state {name!r}: expected one index, or one per item of axis 0, found {starts.size}")
    count, slots = rows[axis], buffer[axis]
    if starts.min() < 0 or int(starts.max()) + count > slots:
        raise RuntimeFailure(
            f"state {name!r}: {count} rows at index {starts.tolist()} do not fit its {slots} slots; "
            "reset the state, or bind it with more slots"
        )


def append_rows(buffer: Array, rows: Array, index: Array, axis: int) -> None:
    """Write `rows` into `buffer` in place, along `axis` beginning at `index`; call `check_append` first."""
    starts = index.reshape(-1)
    if starts.size == 1:
        _rows(buffer, int(starts[0]), rows.shape[axis], axis)[...] = rows
        return
    for item, start in enumerate(starts):
        _rows(buffer[item], int(start), rows.shape[axis], axis - 1)[...] = rows[item]


def _rows(buffer: Array, start: int, count: int, axis: int) -> Array:
    return buffer[(slice(None),) * axis + (slice(start, start + count),)]
