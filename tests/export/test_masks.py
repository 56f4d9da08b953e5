"""Dropout whose masks come from a seed: torch's own dropout in every other respect."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from edge_sdk.export.graphs.masks import Dropout, masks_of


class Small(nn.Module):
    """Two layers of dropout behind one with weights."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.layer, self.first, self.second = nn.Linear(8, 4096), Dropout(), Dropout()
        self.first.share = self.second.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.second(self.first(self.layer(x)))
        return found


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_it_leaves_out_its_share_and_keeps_the_mean(share: float) -> None:
    layer = Dropout()
    layer.share = share
    x = torch.ones(200_000)
    with masks_of(nn.Sequential(nn.Linear(1, 1), layer), [1]):
        found = layer(x)
    assert (found == 0).float().mean().item() == pytest.approx(share, abs=0.01)
    assert found.mean().item() == pytest.approx(1.0, abs=0.01)
    assert found.unique().tolist() == pytest.approx([0.0, 1 / (1 - share)])
    layer.eval()
    assert torch.equal(layer(x), x)


def test_masks_are_the_seed_s_alone_and_each_layer_has_its_own() -> None:
    model, x = Small(0.5), torch.ones(1, 8)
    found = []
    for key in ([3, 7], [3, 7], [3, 8]):
        torch.rand(5)  # what others draw meanwhile
        with masks_of(model, key):
            found.append(model(x))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    # Of two layers of one half a quarter is left.
    assert (found[0] != 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert not torch.equal(model(x), model(x))
    copy.deepcopy(model)
