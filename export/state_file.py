"""Checkpoints of a run: what torch can save, written whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from edge_sdk.files import write_bytes


def save_state(path: Path, state: object) -> None:
    """Write `state` to `path`, replacing it whole. Raises `OSError`, also where the disk is full.

    torch's own writer says a `RuntimeError` then, without a reason. So the bytes lie in memory first.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())
