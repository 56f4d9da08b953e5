"""The student as an ONNX graph of one frame per stream, its state as inputs and outputs.

It uses only operators that opset 18 already had, so the graph belongs to both dialects. Normalisations are folded into
the convolutions first, and the reference outputs come from the folded torch module, not from a runtime.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from edge_sdk.export.graphs.student import SCORES, Student
from edge_sdk.runtime import Array
from edge_sdk.types import StateSpec, TensorSpec

OPSET = 18
STREAMS = "streams"


@dataclass(frozen=True, eq=False)
class StudentGraph:
    """The serialised graph, its tensors and state, and one seeded call with torch's outputs for it."""

    onnx: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    state: tuple[StateSpec, ...]
    reference_inputs: dict[str, Array]
    reference_outputs: dict[str, Array]


class _Step(nn.Module):
    """`Student.step` with its states as separate arguments, as the exporter needs them."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, frames: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Scores and the next states."""
        scores, following = self.student.step(frames, states)
        return scores, *following


def export_student(student: Student, height: int, width: int, seed: int = 0) -> StudentGraph:
    """Export `student` as a graph for pictures of `height` x `width` pixels; the module is not changed."""
    step = _Step(copy.deepcopy(student).fuse()).eval()
    shapes = [(student.shape.planes, height, width), *student.state_shapes(height, width)]
    names = ["frames", *(f"state.{index}" for index in range(len(shapes) - 1))]
    following = ["scores", *(f"next_{name}" for name in names[1:])]
    # Values that float16 can hold, so that a bundle's reference is half as large.
    arguments = [argument.half().float() for argument in _seeded(shapes, seed)]
    with torch.inference_mode():
        outputs = step(*arguments)
    output_shapes = [(len(SCORES),), *shapes[1:]]
    return StudentGraph(
        onnx=_export(step, shapes, names, following),
        inputs=_specs(names, shapes),
        outputs=_specs(following, output_shapes),
        state=tuple(StateSpec(input=name, output=f"next_{name}", kind="alias") for name in names[1:]),
        reference_inputs={name: tensor.numpy() for name, tensor in zip(names, arguments, strict=True)},
        reference_outputs={name: tensor.numpy() for name, tensor in zip(following, outputs, strict=True)},
    )


def _specs(names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=name, dtype="float32", shape=(STREAMS, *shape))
        for name, shape in zip(names, shapes, strict=True)
    )


def _seeded(shapes: Sequence[tuple[int, ...]], seed: int, streams: int = 1) -> list[Tensor]:
    """Frames in the range of planes, and states that are not negative, as features after a ReLU are.

    float16 can hold their values, so that a reference file has half the bytes.
    """
    generator = torch.Generator().manual_seed(seed)
    frames = torch.rand(streams, *shapes[0], generator=generator) * 2 - 1
    states = [torch.rand(streams, *shape, generator=generator) for shape in shapes[1:]]
    return [tensor.half().float() for tensor in (frames, *states)]


def _export(step: nn.Module, shapes: Sequence[tuple[int, ...]], names: list[str], outputs: list[str]) -> bytes:
    # Two streams, because the exporter treats a dimension of length one as a constant.
    example = _seeded(shapes, seed=0, streams=2)
    streams = torch.export.Dim(STREAMS, min=1, max=64)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The exporter warns about its own calls into torch, and that one axis has one name, which is intended.
        warnings.simplefilter("ignore")
        path = Path(folder) / "student.onnx"
        torch.onnx.export(
            step,
            tuple(example),
            path,
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            output_names=outputs,
            dynamic_shapes=({0: streams}, tuple({0: streams} for _ in example[1:])),
            external_data=False,
            verbose=False,
        )
        model = onnx.load(path)
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    serialised: bytes = model.SerializeToString()
    return serialised


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's debugging notes: stack traces with this machine's paths."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
