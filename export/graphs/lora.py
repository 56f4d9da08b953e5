"""Turn an adapter into values of the decoder's LoRA inputs, so that one set of weights serves every adapter."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from edge_sdk.errors import ConfigError
from edge_sdk.export.adapters import Adapter
from edge_sdk.export.graphs.decoder_io import DecoderForm, linear_sizes, lora_names
from edge_sdk.export.model_config import TextConfig
from edge_sdk.export.shards import finite


def lora_inputs(adapter: Adapter, config: TextConfig, form: DecoderForm) -> Iterator[tuple[str, Tensor]]:
    """Yield name and value of each LoRA input of a decoder of `form`; B includes the scale.

    A rank below the graph's is padded with zeros, and linears that the adapter does not adapt get zeros. Raises
    `ConfigError` where the adapter has more than the graph takes, and `CheckpointError` for a value out of range.
    """
    _check(adapter, form)
    dtype = getattr(torch, form.dtype)
    for layer in range(config.layers):
        for linear in form.linears:
            inputs, outputs = linear_sizes(config)[linear]
            a, b = torch.zeros(inputs, form.lora_rank), torch.zeros(form.lora_rank, outputs)
            if pair := adapter.lora(layer, linear):
                rank = adapter.config.rank
                a[:, :rank] = pair[0].float().mT
                b[:rank] = pair[1].float().mT * pair[2]
            for name, value in zip(lora_names(layer, linear), (a, b), strict=True):
                yield name, finite(value.to(dtype), f"{adapter.folder}, {name} as {form.dtype}")


def _check(adapter: Adapter, form: DecoderForm) -> None:
    if adapter.config.rank > form.lora_rank or not set(adapter.linears) <= set(form.linears):
        room = f"rank {form.lora_rank} or less on {', '.join(form.linears) or 'nothing'}"
        found = f"rank {adapter.config.rank} on {', '.join(adapter.linears)}"
        raise ConfigError(
            f"{adapter.folder}: expected LoRA of {room}, found {found}; export the decoder for this adapter too"
        )
