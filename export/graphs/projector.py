"""The projector as a torch module: vision tokens to the decoder's embeddings. An adapter may have its own."""

from __future__ import annotations

from torch import nn

from edge_sdk.export.model_config import ProjectorConfig


class Projector(nn.Sequential):
    """Map `tokens [n, 1152]` to `embeds [n, hidden]`, with exact (erf) GELU, unlike the tower's tanh approximation."""

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__(nn.Linear(config.input, config.output), nn.GELU(), nn.Linear(config.output, config.output))
