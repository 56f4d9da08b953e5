"""The student module: one frame at a time equals a whole window, and memory ends where it says."""

from __future__ import annotations

import copy

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from edge_sdk.export.graphs.student import Student, StudentShape
from edge_sdk.export.graphs.views import View, look

HEIGHT, WIDTH = 64, 96
SHAPE = StudentShape(stages=(8, 8, 16, 16), features=16, grid_dilations=(1, 2), dilations=(1, 2, 4))


SHAPES = {
    "plain": SHAPE,
    "attentive": msgspec.structs.replace(SHAPE, attentive=True),
    "views": msgspec.structs.replace(SHAPE, attentive=True, views=(View(), View(zoom=1.5, mirrored=True))),
}


@pytest.fixture(scope="module", params=SHAPES.values(), ids=SHAPES)
def student(request: pytest.FixtureRequest) -> Student:
    """A student whose every path carries signal: normalisation and biases are not at their starting values."""
    torch.manual_seed(1)
    model = Student(request.param).drop(0.3, 0.3)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(2, 8, 3, HEIGHT, WIDTH))
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


def stream(model: Student, frames: Tensor) -> Tensor:
    """Scores `[streams, time, 4]` of frames `[streams, time, ...]`, fed one by one from an empty state."""
    states = [torch.zeros(len(frames), *shape) for shape in model.state_shapes(HEIGHT, WIDTH)]
    scores = []
    with torch.inference_mode():
        for t in range(frames.shape[1]):
            score, states = model.step(frames[:, t], states)
            scores.append(score)
    return torch.stack(scores, 1)


def test_streaming_equals_offline(student: Student) -> None:
    frames = torch.randn(2, 30, 3, HEIGHT, WIDTH)
    with torch.inference_mode():
        offline = torch.sigmoid(student.survey(frames))
    assert offline.std() > 0.01
    torch.testing.assert_close(stream(student, frames), offline, atol=1e-5, rtol=0)


def test_scores_do_not_depend_on_when_the_stream_began(student: Student) -> None:
    frames = torch.randn(1, 60, 3, HEIGHT, WIDTH)
    early, late = stream(student, frames)[:, 20:], stream(student, frames[:, 20:])
    full = SHAPE.memory_frames
    torch.testing.assert_close(early[:, full:], late[:, full:], atol=1e-5, rtol=0)
    assert (early[:, :full] - late[:, :full]).abs().max() > 1e-4


def test_a_frame_older_than_the_memory_cannot_move_a_score(student: Student) -> None:
    frames = torch.randn(1, SHAPE.memory_frames + 2, 3, HEIGHT, WIDTH)
    changed = frames.clone()
    changed[:, 0] += 3
    before, after = stream(student, frames), stream(student, changed)
    torch.testing.assert_close(before[:, -1], after[:, -1], atol=0, rtol=0)
    assert (before[:, : SHAPE.memory_frames + 1] != after[:, : SHAPE.memory_frames + 1]).any(2).all()


def test_no_score_sees_the_future(student: Student) -> None:
    frames = torch.randn(1, 12, 3, HEIGHT, WIDTH)
    changed = frames.clone()
    changed[:, 7:] += 3
    with torch.inference_mode():
        before, after = student.survey(frames), student.survey(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7], atol=1e-5, rtol=0)
    assert (before[:, 7:] - after[:, 7:]).abs().min() > 0


def test_streams_of_a_batch_do_not_see_each_other(student: Student) -> None:
    frames = torch.randn(3, 10, 3, HEIGHT, WIDTH)
    alone = torch.cat([stream(student, frames[index : index + 1]) for index in range(3)])
    torch.testing.assert_close(stream(student, frames), alone, atol=1e-5, rtol=0)


def test_folding_the_normalisation_changes_nothing(student: Student) -> None:
    frames = torch.randn(1, 10, 3, HEIGHT, WIDTH)
    folded = copy.deepcopy(student).fuse()
    normalisations = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)
    assert not [module for module in folded.modules() if isinstance(module, normalisations)]
    torch.testing.assert_close(stream(folded, frames), stream(student, frames), atol=1e-5, rtol=0)


def test_attention_reads_the_grid_where_the_maps_look() -> None:
    """With one map far above the rest at one cell, the attended features are that cell's; nothing else may matter."""
    torch.manual_seed(3)
    model = Student(msgspec.structs.replace(SHAPE, attentive=True)).eval()
    grid, maps = torch.rand(2, 16, 4, 6), torch.zeros(2, 3, 4, 6)
    maps[0, 1, 2, 5], maps[0, 2, 0, 1] = 50, 50
    maps[1, 1, 3, 0], maps[1, 2, 3, 0] = 50, 50
    with torch.inference_mode():
        attended = model._pool(grid, maps)[:, -32:]
    places = [(0, 2, 5), (0, 0, 1), (1, 3, 0), (1, 3, 0)]
    expected = torch.stack([grid[n, :, row, column] for n, row, column in places]).reshape(2, 32)
    torch.testing.assert_close(attended, expected, atol=1e-5, rtol=0)


def test_views_are_means_of_what_one_view_sees() -> None:
    """PIL's crop, flip and bilinear resize stand for the views; a student of one view gives the logits."""
    torch.manual_seed(4)
    shape = SHAPES["views"]
    model = Student(shape).eval()
    alone = Student(SHAPES["attentive"]).eval()
    alone.load_state_dict(model.state_dict())
    frames = torch.rand(1, 9, 3, HEIGHT, WIDTH)
    # 64 / 1.5 and 96 / 1.5, to even sides.
    rows, columns = 42, 64
    box = ((WIDTH - columns) // 2, (HEIGHT - rows) // 2, (WIDTH + columns) // 2, (HEIGHT + rows) // 2)
    pictures = [
        Image.fromarray(plane.numpy())
        .transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        .resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box=box)
        for plane in frames.flatten(0, 2)
    ]
    enlarged = torch.from_numpy(np.stack([np.array(picture) for picture in pictures])).view(frames.shape)
    with torch.inference_mode():
        expected = (alone(frames)[0] + alone(enlarged)[0]) / 2
        torch.testing.assert_close(model.survey(frames), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(look(frames[0], View()), frames[0], atol=0, rtol=0)


def test_the_demo_shape_keeps_within_its_budget() -> None:
    model = Student(StudentShape(attentive=True))
    assert sum(parameter.numel() for parameter in model.parameters()) <= 650_000
    assert model.state_shapes(192, 320)[0] == (2 * 72, 12, 20)
