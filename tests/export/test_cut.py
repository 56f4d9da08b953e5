import numpy as np
import pytest
import torch

from edge_sdk.export.distil.student import peak_loss
from edge_sdk.export.distil.windows import Piece, cut

FRAMES, HEIGHT, WIDTH = 6, 192, 320


def piece(role: str, row: int, column: int) -> Piece:
    """Six frames whose one vehicle covers four by four cells of the maps and is the only bright thing."""
    luma = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    maps = np.zeros((FRAMES, 4, 48, 80), np.uint8)
    luma[:, 4 * row : 4 * row + 16, 4 * column : 4 * column + 16] = 255
    maps[:, 0, row : row + 4, column : column + 4] = 1
    if role != "bystander":
        maps[:, 3] = maps[:, 0]
    if role == "crashed":
        maps[3:, 1] = maps[3:, 0]
    ones = np.ones((FRAMES, 4), np.float32)
    return Piece(luma=luma, targets=ones, weights=ones, maps=maps, map_weights=ones[:, 0])


@pytest.mark.parametrize("role", ["actor", "crashed"])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (20, 40), (44, 76)])
def test_a_cut_holds_the_incident_and_its_maps_lie_over_its_pictures(role: str, row: int, column: int) -> None:
    for seed in range(20):
        part = cut(piece(role, row, column), np.random.default_rng(seed), 96, 128)
        assert part.luma.shape == (FRAMES, 96, 128)
        assert part.maps.shape == (FRAMES, 4, 24, 32)
        assert (part.luma == 255).sum() == FRAMES * 16 * 16
        np.testing.assert_array_equal(part.luma[:, ::4, ::4] > 0, part.maps[:, 0] > 0)
        assert (part.weights == 1).all()


def test_a_cut_without_an_incident_lies_anywhere() -> None:
    seen = {
        bool((cut(piece("bystander", 20, 40), np.random.default_rng(seed), 96, 128).luma == 255).any())
        for seed in range(40)
    }
    assert seen == {True, False}


def test_frames_whose_crash_is_cut_off_do_not_count() -> None:
    far = piece("crashed", 0, 0)
    far.maps[:5, 1] = far.maps[:5, 0]
    far.maps[5] = 0
    far.maps[5, [0, 1, 3], 40, 70:74] = 1
    part = cut(far, np.random.default_rng(0), 96, 128)
    np.testing.assert_array_equal(part.weights[:, 0], [1, 1, 1, 1, 1, 0])


def test_the_peak_loss_pushes_only_the_highest_frames_of_windows_it_can_judge() -> None:
    logits = torch.zeros(4, 20, 4, requires_grad=True)
    with torch.no_grad():
        logits[:, 5:10, 0] = 3.0
    targets, weights = torch.zeros(4, 20, 4), torch.ones(4, 20, 4)
    targets[1, 4:12, 0] = 1
    targets[2, 4:6, 0] = 1
    weights[3, :, 0] = 0
    peak_loss(logits, targets, weights).backward()
    pushed = logits.grad
    assert pushed is not None
    assert (pushed[0, 5:10, 0] > 0).all()
    assert pushed[0, :5].abs().sum() == pushed[0, 10:].abs().sum() == 0
    assert (pushed[1, 5:10, 0] < 0).all()
    assert pushed[2:].abs().sum() == 0
