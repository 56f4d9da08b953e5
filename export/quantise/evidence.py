"""The cost of quantisation: the error of every matrix and of every graph, and the change of the answers.

Matrices are compared by their products where a calibration has recorded their inputs: an error in a weight whose input
is always zero costs nothing. Answers are those to the references' clip, with the same tokens fed to both models.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edge_sdk.bundle.proof import EVIDENCE, AnswerChange, Evidence, MatrixError
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.device import CPU
from edge_sdk.export.graphs.loading import source_name
from edge_sdk.export.measure import Answer, Measured
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.gptq import output_error
from edge_sdk.files import write_json
from edge_sdk.runtime import Array
from edge_sdk.verify.comparison import compare

_BLOCK_VALUES = 1 << 26


def matrix_error(
    decoder: str, name: str, form: Format, exact: Weights, stored: Weights, gram: Tensor | None
) -> MatrixError:
    """The error of one matrix of `stored`, computed block by block of outputs; `gram` is the gram of its inputs.

    It is computed on the device of `gram`.
    """
    wanted, found = exact.tensor(source_name(exact, name)), stored.tensor(name)
    sums, device = np.zeros(4), CPU if gram is None else gram.device
    for a, b in zip(_blocks(wanted), _blocks(found), strict=True):
        whole = a.to(device).float().t()
        change = b.to(device).float().t() - whole
        sums[:2] += float(change.double().square().sum()), float(whole.double().square().sum())
        if gram is not None:
            sums[2:] += output_error(change, gram), output_error(whole, gram)
    return MatrixError(
        decoder=decoder,
        name=name,
        bits=form.bits,
        block=form.block,
        weight_error=_share(sums[0], sums[1]),
        output_error=None if gram is None else _share(sums[2], sums[3]),
    )


def answer_change(found: Array, exact: Array) -> AnswerChange:
    """Compare logits `[steps, vocab]`."""
    wanted, given = (torch.from_numpy(np.asarray(each, np.float64)).log_softmax(1) for each in (exact, found))
    divergence = functional.kl_div(given, wanted, reduction="none", log_target=True).sum(1).clamp(min=0)
    return AnswerChange(
        steps=len(found),
        equal_tokens=int((found.argmax(1) == exact.argmax(1)).sum()),
        mean_kl=float(divergence.mean()),
        largest_kl=float(divergence.max()),
    )


def joined(parts: Sequence[AnswerChange]) -> AnswerChange:
    """The comparison of all steps of `parts` together."""
    steps = sum(part.steps for part in parts)
    return AnswerChange(
        steps=steps,
        equal_tokens=sum(part.equal_tokens for part in parts),
        mean_kl=sum(part.mean_kl * part.steps for part in parts) / steps,
        largest_kl=max(part.largest_kl for part in parts),
    )


def evidence_of(
    matrices: Iterator[MatrixError], found: Measured, exact: Measured, outputs: Collection[str]
) -> Evidence:
    """All evidence, from the results of the quantised and the exact model for the same inputs.

    `outputs` are the names of the outputs to compare.
    """
    graphs = {
        name: compare(value, exact.graphs[name].outputs[output]).relative_error
        for name, values in found.graphs.items()
        for output, value in values.outputs.items()
        if output in outputs
    }
    return Evidence(
        matrices=tuple(matrices),
        graphs={name: error for name, error in sorted(graphs.items()) if error is not None},
        answers={name: answer_change(each.logits, exact.answers[name].logits) for name, each in found.answers.items()},
    )


def tokens_of(answers: Mapping[str, Answer]) -> dict[str, Array]:
    """The tokens that were fed for each adapter's answer, to feed to another model."""
    return {name: answer.case.tokens for name, answer in answers.items()}


def write_evidence(folder: Path, evidence: Evidence) -> None:
    """Write `evidence` to its place below `folder`."""
    write_json(folder / EVIDENCE, evidence)


def _blocks(matrix: Tensor) -> tuple[Tensor, ...]:
    blocks: tuple[Tensor, ...] = matrix.split(max(1, _BLOCK_VALUES // matrix.shape[1]))
    return blocks


def _share(part: float, whole: float) -> float:
    return float(np.sqrt(max(0.0, part) / whole)) if whole > 0 else 0.0
