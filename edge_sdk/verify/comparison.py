"""Measure how far an array is from its reference; every verification uses these numbers."""

from __future__ import annotations

import numpy as np

from edge_sdk.runtime import Array
from edge_sdk.types import Value


class Comparison(Value, frozen=True, kw_only=True):
    """The difference between an array and its reference.

    `relative_error` is max |a - b| / max |b|, and `cosine` the cosine similarity of the two as vectors. Both are None
    where `problem` says why they have no value.
    """

    relative_error: float | None
    cosine: float | None
    problem: str | None = None

    def within(self, tolerance: float) -> bool:
        """Return whether `relative_error` has a value, and it is at most `tolerance`."""
        return self.relative_error is not None and self.relative_error <= tolerance


def compare(found: Array, expected: Array) -> Comparison:
    """Compare two arrays in float64."""
    problem = _problem(found, expected)
    if problem:
        return Comparison(relative_error=None, cosine=None, problem=problem)
    a, b = found.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    return Comparison(relative_error=_relative_error(a, b), cosine=_cosine(a, b))


def _problem(found: Array, expected: Array) -> str | None:
    if found.shape != expected.shape:
        return f"expected the shape {list(expected.shape)}, found {list(found.shape)}"
    for what, array in (("the reference", expected), ("the output", found)):
        bad = int(array.size - np.isfinite(array).sum())
        if bad:
            return f"{bad} of {array.size} values of {what} are not finite"
    if not expected.any() and found.any():
        return "the reference is zero everywhere, the output is not"
    return None


def _relative_error(a: Array, b: Array) -> float:
    error = float(np.abs(a - b).max(initial=0.0))
    return error / float(np.abs(b).max()) if error else 0.0


def _cosine(a: Array, b: Array) -> float | None:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else None
