"""Checkpoints of a training run: anything that torch can save, written whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from edge_sdk.files import write_bytes


def save_state(path: Path, state: object) -> None:
    """Write `state` to `path`, replacing the file atomically. Raises `OSError`, for a full disk too.

    torch's own writer raises a `RuntimeError` without a reason on a full disk, so the bytes go to memory first.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())
