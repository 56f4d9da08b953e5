"""Where heads look before training: at the patches around a patch, and at the same place one frame earlier.

A small transformer that begins with random heads spends most of a short training on finding out which of its inputs
are neighbours. Queries and keys of some heads therefore begin with a constant part: their rotary embedding turns it by
the difference of two places, so that attention is highest at one offset whatever the pictures show. It is only a start;
training changes it. (The idea of a structured start is that of Trockman and Kolter, "Mimetic initialization of
self-attention layers", 2023; here the rotary embedding carries it.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# By how much the logit at the aimed offset exceeds that of distant places, for each frequency.
_SHARPNESS = 3.0
_THETA = 1e4
# The share of their random weights that aimed numbers keep: content adds little to them at first.
_CONTENT = 0.1
# How many frequencies of an axis are used, the highest first; the lower ones hardly distinguish neighbours.
_AXIS_FREQUENCIES, _LINE_FREQUENCIES = 5, 9

# Where each head of the tower's first layers looks, in rows down and columns to the right.
_AROUND = (
    ((0, -1), (0, 1), (-1, 0), (1, 0)),
    ((0, -2), (0, 2), (-2, 0), (2, 0)),
)


@torch.no_grad()
def aim_tower(tower: Any, heads: int) -> None:
    """Aim the heads of the first layers of a vision tower (a module of transformers) at patches around each patch."""
    for layer, offsets in zip(tower.encoder.layers, _AROUND, strict=False):
        attention = layer.self_attn
        width = attention.q_proj.weight.shape[0] // heads
        frequencies = _frequencies(width // 2)[:_AXIS_FREQUENCIES]
        # A head's pairs of numbers: those turned by the row come first, then those turned by the column.
        pairs = [first + number for first in (0, width // 4) for number in range(len(frequencies))]
        for head, offset in enumerate(offsets[:heads]):
            angles = torch.cat([along * frequencies for along in offset])
            _aim(attention.q_proj, head, width, pairs, angles)
            _aim(attention.k_proj, head, width, pairs, torch.zeros_like(angles))


@torch.no_grad()
def aim_decoder(decoder: Any, kv_heads: int, frame_tokens: int, columns: int) -> None:
    """Aim heads of a decoder (a Qwen2 module of transformers) at image tokens near a token in time and space.

    A place is `frame_tokens` tokens before the same place one frame later, and `columns` before the place below it.
    """
    for layer, offsets in zip(decoder.layers, _before(frame_tokens, columns), strict=False):
        attention = layer.self_attn
        width = attention.head_dim
        frequencies = _frequencies(width)[:_LINE_FREQUENCIES]
        pairs = list(range(len(frequencies)))
        for head, offset in enumerate(offsets[: attention.q_proj.weight.shape[0] // width]):
            _aim(attention.q_proj, head, width, pairs, -offset * frequencies)
        for head in range(kv_heads):
            _aim(attention.k_proj, head, width, pairs, torch.zeros_like(frequencies))


def _before(frame: int, row: int) -> Sequence[Sequence[int]]:
    """How many tokens back each head looks: a frame earlier and the places around, then two frames earlier."""
    return (frame, frame + 1, frame - 1, row), (frame, frame + row, frame - row, 1), (2 * frame, frame)


def _frequencies(numbers: int) -> Tensor:
    """Angles by which rotary embeddings turn the pairs of `numbers` numbers at a distance of one."""
    return _THETA ** -(torch.arange(0, numbers, 2) / numbers)


def _aim(linear: Any, head: int, width: int, pairs: Sequence[int], angles: Tensor) -> None:
    """Give `pairs` of a head's numbers a constant part, turned by `angles`; a pair is half a head apart."""
    # An attention logit is the product of a query and a key, divided by the root of the head's width.
    amplitude = math.sqrt(_SHARPNESS * math.sqrt(width))
    first = head * width + torch.tensor(pairs)
    second = first + width // 2
    for rows, part in ((first, angles.cos()), (second, angles.sin())):
        linear.weight[rows] *= _CONTENT
        linear.bias[rows] = amplitude * part
