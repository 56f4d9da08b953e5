"""Does a runtime, on this machine, give what the bundle's reference outputs say it must?

Compilers have turned correct graphs into wrong answers without a word. Each graph of a bundle may carry seeded inputs
and their fp32 outputs; running the one and comparing with the other needs no torch, so it is done on the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edge_sdk.bundle import Bundle
from edge_sdk.errors import BundleError, ConfigError, VerificationError
from edge_sdk.files import write_bytes
from edge_sdk.manifest import ReferenceCase
from edge_sdk.registry import DEFAULT_RUNTIME, open_runtime
from edge_sdk.runtime import Array, SessionOptions
from edge_sdk.types import Value

MAX_REFERENCE_BYTES = 2_000_000
_IN, _OUT = "in.", "out."


class OutputCheck(Value, frozen=True, kw_only=True):
    """One output against its reference.

    `relative_error` is max |a - b| / max |b|, `cosine` that of the two as vectors; both are None where `problem`
    says why they have no value.
    """

    graph: str
    output: str
    relative_error: float | None
    max_relative_error: float
    cosine: float | None
    problem: str | None
    ok: bool


class VerifyReport(Value, frozen=True, kw_only=True):
    """Every output compared, and the graphs that carry no reference. An empty comparison is not ok."""

    bundle: str
    bundle_sha256: str
    runtime: str
    ok: bool
    outputs: tuple[OutputCheck, ...]
    without_reference: tuple[str, ...]

    def __str__(self) -> str:
        lines = [_line(check) for check in self.outputs]
        lines += [f"{name}: no reference outputs, not compared" for name in self.without_reference]
        verdict = "ok" if self.ok else "FAILED" if self.outputs else "FAILED: the bundle has no reference outputs"
        return "\n".join([*lines, f"{self.bundle} on {self.runtime}: {verdict}"])


def verify(bundle: Bundle, runtime: str = DEFAULT_RUNTIME, options: SessionOptions | None = None) -> VerifyReport:
    """Run every graph of `bundle` that has a reference and compare. A wrong output is a report, not an exception.

    Raises `MissingDependencyError`, `RuntimeFailure` where a graph does not open or run, and `BundleError` for a
    reference file that cannot be used.
    """
    checks: list[OutputCheck] = []
    bare: list[str] = []
    for name, graph in sorted(bundle.manifest.graphs.items()):
        if graph.reference is None:
            bare.append(name)
        else:
            checks += _verify_graph(bundle, name, graph.reference, runtime, options or SessionOptions())
    return VerifyReport(
        bundle=bundle.manifest.name,
        bundle_sha256=bundle.sha256,
        runtime=runtime,
        ok=bool(checks) and all(check.ok for check in checks),
        outputs=tuple(checks),
        without_reference=tuple(bare),
    )


def require(report: VerifyReport) -> None:
    """Raise `VerificationError` with the failed outputs, unless the report is ok."""
    if not report.ok:
        failed = [_line(check) for check in report.outputs if not check.ok] or ["it has no reference outputs"]
        raise VerificationError(f"bundle {report.bundle!r} on runtime {report.runtime!r}: " + "; ".join(failed))


def reference_bytes(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> bytes:
    """The safetensors file of a `ReferenceCase`. Raises `ConfigError` above 2 MB or for outputs that are not finite."""
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise ConfigError(f"reference output {name!r} holds values that are not finite; choose other inputs")
    named = {f"{_IN}{name}": array for name, array in inputs.items()}
    named |= {f"{_OUT}{name}": array for name, array in outputs.items()}
    data = save({name: np.ascontiguousarray(array) for name, array in named.items()})
    if len(data) > MAX_REFERENCE_BYTES:
        raise ConfigError(
            f"the reference has {len(data)} bytes, at most {MAX_REFERENCE_BYTES} are allowed; use smaller inputs"
        )
    return data


def write_reference(path: Path, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    """Write the safetensors file of a `ReferenceCase`. Raises as `reference_bytes`."""
    write_bytes(path, reference_bytes(inputs, outputs))


def _verify_graph(
    bundle: Bundle, name: str, case: ReferenceCase, runtime: str, options: SessionOptions
) -> list[OutputCheck]:
    graph, path = bundle.graph(name)
    inputs, expected = _load(bundle.path(case.file))
    unknown = expected.keys() - {spec.name for spec in graph.outputs}
    if unknown or not expected:
        raise BundleError(f"{case.file}: expected outputs of the graph {name!r}, found {sorted(expected)}")
    with closing(open_runtime(runtime).open(path, graph, options)) as session:
        found = session.run(inputs)
    return [
        _compare(name, output, found[output], reference, case.max_relative_error)
        for output, reference in sorted(expected.items())
    ]


def _load(path: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    data = path.read_bytes()
    if len(data) > MAX_REFERENCE_BYTES:
        raise BundleError(f"{path} has {len(data)} bytes; a reference has at most {MAX_REFERENCE_BYTES}")
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise BundleError(f"{path} is not a safetensors file that numpy can hold: {error}") from error
    stray = [name for name in tensors if not name.startswith((_IN, _OUT))]
    if stray:
        raise BundleError(f"{path}: tensors are called {_IN}NAME or {_OUT}NAME, found {stray}")
    inputs = {name.removeprefix(_IN): array for name, array in tensors.items() if name.startswith(_IN)}
    outputs = {name.removeprefix(_OUT): array for name, array in tensors.items() if name.startswith(_OUT)}
    return inputs, outputs


def _compare(graph: str, output: str, found: Array, expected: Array, tolerance: float) -> OutputCheck:
    problem = _problem(found, expected)
    error: float | None = None
    cosine: float | None = None
    if problem is None:
        a, b = found.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
        error, cosine = _relative_error(a, b), _cosine(a, b)
    return OutputCheck(
        graph=graph,
        output=output,
        relative_error=error,
        max_relative_error=tolerance,
        cosine=cosine,
        problem=problem,
        ok=error is not None and error <= tolerance,
    )


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


def _line(check: OutputCheck) -> str:
    name = f"{check.graph}/{check.output}"
    if check.problem:
        return f"{name}: {check.problem}"
    return f"{name}: relative error {check.relative_error:.3g}, at most {check.max_relative_error:g} allowed"
