"""The vision tower and the projector as modules, against transformers' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checkpoint_makers import save, tiny_model, video_inputs, wide_model
from decoder_loop import lively

from edge_sdk.errors import ConfigError
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.graphs.loading import load
from edge_sdk.export.graphs.projector import Projector
from edge_sdk.export.graphs.vision import Grid, Vision


@pytest.fixture(scope="module", params=["tiny", "2b"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Checkpoint]:
    model = lively(tiny_model()) if request.param == "tiny" else wide_model("2b", layers=1, vocabulary=256)
    return model, Checkpoint.open(save(model, tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize("grid", [(4, 6), (6, 2), (2, 2)])
def test_frames_one_by_one_and_together_equal_the_whole_clip(
    pair: tuple[Any, Checkpoint], grid: tuple[int, int]
) -> None:
    model, checkpoint = pair
    inputs = video_inputs(model, frames=3, grid=grid)
    pixels = inputs["pixel_values_videos"]
    vision = load(checkpoint, "vision.", lambda: Vision(checkpoint.config.vision, Grid(rows=grid[0], columns=grid[1])))
    patches = pixels.reshape(3, grid[0] * grid[1], 588)
    with torch.inference_mode():
        expected = model.model.vision_model(pixels, inputs["video_grid_thw"], inputs["video_merge_sizes"])
        together = vision(patches)
        alone = torch.cat([vision(frame[None]) for frame in patches])
    hidden = model.config.vision_config.hidden_size
    assert together.shape == (3, grid[0] * grid[1] // 4, hidden)
    for found in (together, alone):
        torch.testing.assert_close(found.reshape(-1, hidden), expected.last_hidden_state, atol=1e-5, rtol=1e-5)


def test_the_projector_equals_transformers(pair: tuple[Any, Checkpoint]) -> None:
    model, checkpoint = pair
    projector = load(checkpoint, "projector.", lambda: Projector(checkpoint.config.projector))
    # Wide enough for the two forms of GELU to differ by more than the tolerance.
    tokens = torch.randn(7, model.config.vision_config.hidden_size, generator=torch.Generator().manual_seed(3)) * 5
    with torch.inference_mode():
        torch.testing.assert_close(projector(tokens), model.model.projector(tokens), atol=1e-5, rtol=1e-5)


def test_weights_are_those_of_the_file_and_not_trained(pair: tuple[Any, Checkpoint]) -> None:
    _, checkpoint = pair
    projector = load(checkpoint, "projector.", lambda: Projector(checkpoint.config.projector), torch.float16)
    assert {parameter.dtype for parameter in projector.parameters()} == {torch.float16}
    assert not any(parameter.requires_grad for parameter in projector.parameters())
    assert not projector.training


@pytest.mark.parametrize("grid", [(3, 4), (4, 3), (0, 4)])
def test_a_grid_that_does_not_merge_is_refused(grid: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"grid {grid[0]} x {grid[1]}: expected .* multiples of 2"):
        Grid(rows=grid[0], columns=grid[1])
