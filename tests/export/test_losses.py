"""What the extra losses push, and that motion turns with the picture."""

from __future__ import annotations

import pytest
import torch

from edge_sdk.export.distil.augment import warp
from edge_sdk.export.distil.losses import FLOW_SCALE, map_loss, peak_loss, window_loss
from edge_sdk.export.distil.recipe import load_recipe
from edge_sdk.export.distil.windows import grid_maps


def test_the_peak_loss_pushes_only_the_highest_frames_of_windows_it_can_judge() -> None:
    logits = torch.zeros(4, 20, 4, requires_grad=True)
    with torch.no_grad():
        logits[:, 5:10, 0] = 3.0
    targets, weights = torch.zeros(4, 20, 4), torch.ones(4, 20, 4)
    targets[1, 4:12, 0] = 1
    targets[2, 4:6, 0] = 1
    weights[3, :, 0] = 0
    peak_loss(logits, targets, weights).backward()  # type: ignore[no-untyped-call]  # torch's stub
    pushed = logits.grad
    assert pushed is not None
    assert (pushed[0, 5:10, 0] > 0).all()
    assert pushed[0, :5].abs().sum() == pushed[0, 10:].abs().sum() == 0
    assert (pushed[1, 5:10, 0] < 0).all()
    assert pushed[2:].abs().sum() == 0


def test_of_a_window_half_of_which_nobody_has_labelled_the_other_half_says_what_its_peak_should_be() -> None:
    logits = torch.zeros(1, 20, 4, requires_grad=True)
    targets, weights = torch.zeros(1, 20, 4), torch.ones(1, 20, 4)
    targets[0, 10:, 0], weights[0, 10:] = 1, 0
    peak_loss(logits, targets, weights).backward()  # type: ignore[no-untyped-call]  # torch's stub
    assert logits.grad is not None
    assert logits.grad[0, :10, 0].sum() > 0
    assert not logits.grad[0, 10:].any()


def test_few_frames_with_labels_do_not_count_as_a_whole_window() -> None:
    recipe, _ = load_recipe("student-demo")
    logits, targets = torch.zeros(2, 20, 4), torch.zeros(2, 20, 4)
    few, all_ = torch.zeros(2, 20, 4), torch.ones(2, 20, 4)
    few[0, :4] = 1
    found = window_loss(logits, targets, few, recipe, least=20.0)
    assert found == pytest.approx(float(window_loss(logits, targets, few, recipe)) * 4 / 20)
    assert found == pytest.approx(float(window_loss(logits, targets, all_, recipe)) * 4 / 20)


@pytest.mark.parametrize("boxed", [[20, 20], [20, 0], [4, 0]])
def test_maps_and_peaks_of_windows_together_cost_the_mean_of_each_alone(boxed: list[int]) -> None:
    recipe, _ = load_recipe("student-demo")
    torch.manual_seed(0)
    maps, wanted, weights = torch.randn(2, 20, 5, 3, 4), (torch.rand(2, 20, 6, 3, 4) > 0.5).float(), torch.zeros(2, 20)
    for window, frames in enumerate(boxed):
        weights[window, :frames] = 1
    alone = [map_loss(maps[i, None], wanted[i, None], weights[i, None], recipe) for i in (0, 1)]
    torch.testing.assert_close(map_loss(maps, wanted, weights, recipe), (alone[0] + alone[1]) / 2)
    logits, targets, known = torch.randn(2, 20, 4), torch.zeros(2, 20, 4), torch.ones(2, 20, 4)
    targets[0, : boxed[0], 0] = targets[1, : boxed[1] // 10, 0] = 1
    peaks = [peak_loss(logits[i, None], targets[i, None], known[i, None]) for i in (0, 1)]
    torch.testing.assert_close(peak_loss(logits, targets, known), (peaks[0] + peaks[1]) / 2)


@pytest.mark.parametrize("zoom", [0.8, 1.0, 1.25])
@pytest.mark.parametrize("mirror", [-1.0, 1.0])
def test_motion_turns_and_grows_with_the_picture(zoom: float, mirror: float) -> None:
    """A spot drawn at two times: how far it has moved in the warped pictures is what the warped map must say."""
    matrix = torch.tensor([[mirror * zoom, 0.0, 0.05], [0.0, zoom, 0.0]])
    then, now = torch.zeros(2, 48, 80)
    then[20:24, 36:40], now[20:24, 44:48] = 1, 1
    pictures = warp(torch.stack([then, now]), matrix)
    centres = [(picture.sum(0) * torch.arange(80)).sum() / picture.sum() for picture in pictures]
    maps = torch.zeros(1, 6, 48, 80)
    maps[0, 0], maps[0, 4] = now, now * 8
    found = grid_maps(warp(maps.flatten(0, 1), matrix).unflatten(0, (1, 6)), matrix, 12, 20)
    seen = found[0, 0] > 0.9
    assert seen.any()
    torch.testing.assert_close(found[0, 4][seen].mean(), centres[1] - centres[0], atol=0.3, rtol=0.0)


def test_motion_counts_where_a_vehicle_is_and_nowhere_else() -> None:
    recipe, _ = load_recipe("student-demo")
    found = torch.zeros(1, 2, 5, 3, 4)
    targets = torch.zeros(1, 2, 6, 3, 4)
    targets[0, :, 0, 1, 1] = 1
    weights = torch.ones(1, 2)
    still = map_loss(found, targets, weights, recipe)
    targets[0, :, 4, 2, 3] = 10 * FLOW_SCALE
    assert map_loss(found, targets, weights, recipe) == still
    targets[0, :, 4, 1, 1] = 10 * FLOW_SCALE
    assert map_loss(found, targets, weights, recipe) - still == pytest.approx(9.5 * recipe.loss.flow_weight)
