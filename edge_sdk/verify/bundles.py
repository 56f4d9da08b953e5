"""Check that a runtime on this machine gives the bundle's reference outputs.

Compilers have silently turned correct graphs into wrong answers. Each graph of a bundle may carry seeded inputs with
their fp32 outputs, and each adapter of the video LLM a clip with its answer. Running and comparing them needs no torch,
so the check runs on the device.
"""

from __future__ import annotations

from collections.abc import Collection

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.proof import Proof, read_proof
from edge_sdk.bundle.proof import describe as describe_proof
from edge_sdk.engine.tensorrt_library import PACKAGES, runtime_dialects
from edge_sdk.errors import VerificationError
from edge_sdk.hardware.predicted import Predicted, PredictedStudent, describe_student, predict, predict_student
from edge_sdk.hardware.predicted import describe as describe_predicted
from edge_sdk.registry import DEFAULT_RUNTIME
from edge_sdk.runtime import SessionOptions
from edge_sdk.types import Dialect, Value
from edge_sdk.verify.answers import ChainCheck, check_chain
from edge_sdk.verify.graphs import OutputCheck, check_graph, reference_case, why_unbuilt
from edge_sdk.verify.reference_files import load_chain


class VerifyReport(Value, frozen=True, kw_only=True):
    """Every output and answer that was compared, and everything that was not.

    Not compared are graphs without a reference, graphs of a dialect that the runtime does not read, adapters without a
    reference answer, and graphs that are not built for this device, with the reason. A report without any comparison is
    not ok, nor is one whose stored proof of the cost of quantisation belongs to other files than the bundle's.
    """

    bundle: str
    bundle_sha256: str
    runtime: str
    ok: bool
    outputs: tuple[OutputCheck, ...]
    answers: tuple[ChainCheck, ...]
    without_reference: tuple[str, ...]
    adapters_not_compared: tuple[str, ...]
    of_another_dialect: tuple[str, ...]
    not_built: dict[str, str]
    proof: Proof | None = None
    predicted: tuple[Predicted, ...] = ()
    predicted_student: tuple[PredictedStudent, ...] = ()

    def __str__(self) -> str:
        lines = [str(check) for check in self.outputs] + [str(check) for check in self.answers]
        lines += [f"{name}: no reference outputs, not compared" for name in self.without_reference]
        lines += [f"{name}: not compared, {why}" for name, why in self.not_built.items()]
        mute = "no reference in these dialects" + (", or graphs that are not built" if self.not_built else "")
        lines += [f"answer of {name}: {mute}, not compared" for name in self.adapters_not_compared]
        lines += [f"{name}: of a dialect that {self.runtime} does not read" for name in self.of_another_dialect]
        lines += describe_proof(self.proof) if self.proof else []
        lines += [*describe_predicted(self.predicted), *describe_student(self.predicted_student)]
        nothing = "nothing is built that could be compared" if self.not_built else "the bundle has no reference outputs"
        compared = self.outputs or self.answers
        verdict = "ok" if self.ok else "FAILED" if compared else f"FAILED: {nothing}"
        return "\n".join([*lines, f"{self.bundle} on {self.runtime}: {verdict}"])


def verify(
    bundle: Bundle,
    runtime: str = DEFAULT_RUNTIME,
    options: SessionOptions | None = None,
    graphs: Collection[str] | None = None,
    dialects: Collection[Dialect] | None = None,
) -> VerifyReport:
    """Run every graph and adapter of `bundle` that has a reference, and compare the outputs.

    If `graphs` are given, only these graphs and no adapters are compared. Only graphs of `dialects` are run, by default
    those that the runtime reads.

    A wrong output is reported, not raised. Raises `MissingDependencyError`, `RuntimeFailure` if a graph does not open
    or run, `BundleError` for a reference file that cannot be used, and `UnknownNameError` for an unknown graph.
    """
    settled, spoken = options or SessionOptions(), dialects or runtime_dialects(runtime)
    outputs: list[OutputCheck] = []
    bare: list[str] = []
    foreign: list[str] = []
    unbuilt: dict[str, str] = {}
    for name in sorted(bundle.manifest.graphs if graphs is None else graphs):
        case = reference_case(bundle, name)
        if not _is_read(bundle.manifest.graphs[name].dialects, spoken, runtime):
            foreign.append(name)
        elif why := why_unbuilt(bundle, name, runtime, settled):
            unbuilt[name] = why
        elif case is None:
            bare.append(name)
        else:
            outputs += check_graph(bundle, name, case, runtime, settled)
    proof = read_proof(bundle)
    answers, mute = _verify_answers(bundle, runtime, settled, spoken, unbuilt) if graphs is None else ([], [])
    return VerifyReport(
        bundle=bundle.manifest.name,
        bundle_sha256=bundle.sha256,
        runtime=runtime,
        ok=bool(outputs or answers)
        and all(check.ok for check in outputs)
        and all(check.ok for check in answers)
        and not (proof and proof.problems),
        outputs=tuple(outputs),
        answers=tuple(answers),
        without_reference=tuple(bare),
        adapters_not_compared=tuple(mute),
        of_another_dialect=tuple(foreign),
        not_built=unbuilt,
        proof=proof,
        predicted=predict(bundle) if proof else (),
        predicted_student=predict_student(bundle, proof) if proof else (),
    )


def require(report: VerifyReport) -> None:
    """Raise `VerificationError` with the failed outputs and answers, unless the report is ok."""
    if not report.ok:
        failed = [str(check) for check in report.outputs if not check.ok]
        failed += [str(check) for check in report.answers if not check.ok]
        failed += report.proof.problems if report.proof else ()
        raise VerificationError(
            f"bundle {report.bundle!r} on runtime {report.runtime!r}: "
            + "; ".join(failed or report.not_built.values() or ["it has no reference outputs"])
        )


def _is_read(dialects: Collection[Dialect], spoken: Collection[Dialect], runtime: str) -> bool:
    """Return whether the runtime reads a graph; any runtime but TensorRT's reads a graph that declares no dialect."""
    return bool(set(spoken) & set(dialects)) or not (dialects or runtime in PACKAGES)


def _verify_answers(
    bundle: Bundle, runtime: str, options: SessionOptions, dialects: Collection[Dialect], unbuilt: Collection[str]
) -> tuple[list[ChainCheck], list[str]]:
    """Return the comparisons, and the adapters for which nothing was compared."""
    checks: list[ChainCheck] = []
    mute: list[str] = []
    language = bundle.manifest.language
    for name, adapter in sorted(language.adapters.items()) if language else ():
        found: list[ChainCheck] = []
        if adapter.reference:
            case = load_chain(bundle.path(adapter.reference.file))
            limit, profile = adapter.reference.max_relative_error, adapter.reference.profile
            found = check_chain(bundle, name, case, profile, limit, runtime, options, dialects, unbuilt)
        checks += found
        if not found:
            mute.append(name)
    return checks, mute
