"""The vision tower as a torch module, for frames of one grid: the eager reference of its graphs.

Attention never crosses frames, so frames form a batch of fixed shape without a mask, and a frame can be encoded as soon
as it arrives. The grid is a constant: its positions become two tables, and no shape is computed when the graph runs.

Order of patches, positions and the merge: `image_processing_videollama3.py` and `modeling_videollama3_encoder.py` of
VideoLLaMA3. Its bilinear halving of the grid is exactly the mean of each 2 x 2 window.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_sdk.errors import ConfigError
from edge_sdk.export.model_config import VisionConfig
from edge_sdk.types import Value

# Patches along each side of the window that becomes one token.
MERGE = 2


class Grid(Value, frozen=True, kw_only=True):
    """Patches down and across a frame, each a multiple of `MERGE`."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if min(self.rows, self.columns) < MERGE or self.rows % MERGE or self.columns % MERGE:
            raise ConfigError(
                f"grid {self.rows} x {self.columns}: expected rows and columns in multiples of {MERGE}; "
                f"choose a picture whose sides are multiples of {MERGE} patches"
            )

    @property
    def patches(self) -> int:
        """Patches of one frame."""
        return self.rows * self.columns

    @property
    def tokens(self) -> int:
        """Tokens of one frame."""
        return self.patches // MERGE**2


def grid_rope(config: VisionConfig, grid: Grid) -> tuple[Tensor, Tensor]:
    """Cosines and sines of RoPE, each `[patches, head_dim / 2]`, float32.

    The first `head_dim / 4` angles follow the row, the others the column. Patches are in the model's order: window by
    window, and by row within each.
    """
    cpu = torch.device("cpu")  # even inside `torch.device("meta")`
    half = config.head_dim // 2
    frequency = config.rope_theta ** -(torch.arange(0, half, 2, dtype=torch.float32, device=cpu) / half)
    rows = torch.arange(grid.rows, device=cpu)[:, None].expand(grid.rows, grid.columns)
    columns = torch.arange(grid.columns, device=cpu).expand(grid.rows, grid.columns)
    angles = torch.cat([_by_window(places)[:, None] * frequency for places in (rows, columns)], 1)
    return angles.cos(), angles.sin()


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE on `x [..., n, head_dim]`: element i is paired with element i + head_dim / 2."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Vision(nn.Module):
    """Map `patches [frames, patches, 588]` to `tokens [frames, patches / 4, 1152]`, before the projector."""

    def __init__(self, config: VisionConfig, grid: Grid) -> None:
        super().__init__()
        self.patch_embedding = nn.Linear(config.patch_values, config.hidden)
        self.layers = nn.ModuleList(VisionLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.hidden, config.eps)
        self.cos, self.sin = grid_rope(config, grid)

    def forward(self, patches: Tensor) -> Tensor:
        """Tokens of each frame, which depend on no other frame."""
        x = self.patch_embedding(patches)
        cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        merged: Tensor = self.norm(x).unflatten(1, (-1, MERGE**2)).mean(2)
        return merged


class VisionLayer(nn.Module):
    """One layer of the tower."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(hidden, config.eps)
        self.q, self.k, self.v, self.out = (nn.Linear(hidden, hidden) for _ in range(4))
        self.norm2 = nn.LayerNorm(hidden, config.eps)
        self.fc1 = nn.Linear(hidden, config.intermediate)
        self.fc2 = nn.Linear(config.intermediate, hidden)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The next `x`, of the same shape."""
        x = x + self._attend(self.norm1(x), cos, sin)
        inner = functional.gelu(self.fc1(self.norm2(x)), approximate="tanh")
        y: Tensor = x + self.fc2(inner)
        return y

    def _attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        query, key, value = (
            part(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        found = functional.scaled_dot_product_attention(turn(query, cos, sin), turn(key, cos, sin), value)
        y: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return y


def _by_window(places: Tensor) -> Tensor:
    """Reorder a grid's values into the model's order of patches."""
    windows: Tensor = places.unflatten(0, (-1, MERGE)).unflatten(2, (-1, MERGE)).transpose(1, 2)
    return windows.flatten()
