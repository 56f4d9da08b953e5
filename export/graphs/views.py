"""The ways in which a student looks at a frame: as it is, mirrored, or enlarged around its middle.

A student that was trained on mirrored and enlarged windows judges each view about as well as the frame itself, but
makes different errors, so the mean of their logits is better than any single one. An enlarged view costs as much as the
whole frame and shows vehicles that are otherwise too small for the grid's cells.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edge_sdk.types import Value


class View(Value, frozen=True, kw_only=True):
    """One view of a frame. `zoom` is the enlargement of its middle, at least 1; `mirrored` swaps left and right."""

    zoom: float = 1.0
    mirrored: bool = False


def look(planes: Tensor, view: View) -> Tensor:
    """Planes `[n, planes, height, width]` as `view` shows them, same shape; the region cut out has even sides."""
    height, width = planes.shape[-2:]
    seen = planes.flip(3) if view.mirrored else planes
    if view.zoom == 1.0:
        return seen
    rows, columns = (round(side / view.zoom / 2) * 2 for side in (height, width))
    top, left = (height - rows) // 2, (width - columns) // 2
    middle = seen[:, :, top : top + rows, left : left + columns]
    return functional.interpolate(middle, (height, width), mode="bilinear", align_corners=False)
