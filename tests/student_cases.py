"""A small student with random weights in a bundle, clips with scene records, and the student in torch in 8 bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import torch
from asking_clips import make_clip
from torch import Tensor, nn
from torch.nn import functional

from edge_sdk.bundle import Bundle, default_bundle
from edge_sdk.clips import read_record
from edge_sdk.export.distil.recipe import load_recipe
from edge_sdk.export.graphs.student import ConvNorm, Student, StudentShape
from edge_sdk.export.student_bundle import write_student_bundle

HEIGHT, WIDTH = 64, 96
RECORD = read_record(next((default_bundle() / "demo").glob("*.json")))
SCALES = Mapping[str, float]


def small_student(seed: int = 2) -> Student:
    """Random weights, norms that have seen something."""
    torch.manual_seed(seed)
    model = Student(StudentShape(stages=(8, 8, 16, 16), features=16, dilations=(1, 2), attentive=True))
    with torch.no_grad():
        model(torch.randn(4, 8, 3, HEIGHT, WIDTH))
        model.head.weight.mul_(8)
    return model.eval()


def small_bundle(out: Path, model: Student) -> Bundle:
    """The student in a bundle for small pictures."""
    recipe, _ = load_recipe("student-demo")
    pictures = msgspec.structs.replace(recipe.pictures, height=HEIGHT, width=WIDTH)
    return write_student_bundle(out, model, msgspec.structs.replace(recipe, pictures=pictures), {})


def make_scenes(folder: Path, count: int, *, crashes: int, seconds: float = 1.0, first: int = 0) -> Path:
    """So many clips with records, no two alike."""
    folder.mkdir(parents=True)
    for number in range(count):
        crash, name = number < crashes, f"clip{first + number}"
        make_clip(folder / f"{name}.mp4", seconds=seconds + 0.1 * (first + number), size=(WIDTH, HEIGHT))
        # Any: fields of a record.
        times: dict[str, Any] = {"pre_crash_start_s": 0.2, "crash_start_s": 0.5, "crash_end_s": 0.9}
        if not crash:
            times = dict.fromkeys(times)
        changes = {"name": name, "crash": crash, "kind": RECORD.kind if crash else "normal", "seed": first + number}
        record = msgspec.structs.replace(RECORD, duration_s=seconds, **changes, **times)
        (folder / f"{name}.json").write_bytes(msgspec.json.encode(record))
    return folder


@contextmanager
def rounded_in_torch(student: Student, scales: SCALES) -> Iterator[None]:
    """`student`, fused, computing as its graph of 8 bits says: torch's own fake quantisation at the same places.

    The k-th ReLU of a step is the value `relu` or `relu_k` of the graph; residual sums, joined grids and the input are
    rounded where modules are entered or left.
    """

    def round_to(x: Tensor, name: str) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(x, scales[name], 0, -128, 127) if name in scales else x

    calls = 0

    def relu(x: Tensor, inplace: bool = False) -> Tensor:
        nonlocal calls
        name, calls = f"relu_{calls}" if calls else "relu", calls + 1
        return round_to(x.clamp(min=0), name)

    def enter(name: str) -> Any:
        return lambda module, given: (round_to(given[0], name),)

    def leave(name: str) -> Any:
        return lambda module, given, found: round_to(found, name)

    hooks = [student.picture[0].register_forward_pre_hook(enter("frames"))]
    residual = {2: "conv2d_2", 5: "conv2d_5", 8: "conv2d_8"}
    hooks += [student.picture[i].second.register_forward_hook(leave(name)) for i, name in residual.items()]  # type: ignore[union-attr]
    for block, joined, summed in zip(student.grid, ("cat", "cat_2"), ("conv2d_10", "conv2d_12"), strict=True):
        hooks += [
            block.first.register_forward_pre_hook(enter(joined)),
            block.second.register_forward_hook(leave(summed)),
        ]  # type: ignore[union-attr]
    exact = {}
    for module in student.modules():
        if isinstance(module, ConvNorm):
            exact[module.conv] = module.conv.weight.data.clone()
            module.conv.weight.data = rounded_weight(module.conv)
    try:
        with patch.object(functional, "relu", relu):
            yield
    finally:
        for hook in hooks:
            hook.remove()
        for conv, weight in exact.items():
            conv.weight.data = weight


def rounded_weight(conv: nn.Conv2d) -> Tensor:
    """By torch's fake quantisation, a scale for each output."""
    scale = conv.weight.detach().abs().amax((1, 2, 3)) / 127
    return torch.fake_quantize_per_channel_affine(conv.weight.detach(), scale, torch.zeros(len(scale)), 0, -127, 127)
