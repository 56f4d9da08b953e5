"""Run stages layer by layer, with states on the disk between them.

The states before a layer are removed only when the layer's stage is complete, so that a stopped run resumes at the
layer that it was in.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_sdk.export.stage_store import OnBytes, Stage, StageStore


def run_layers(
    store: StageStore, stages: Sequence[Stage], states: Callable[[int], Path], on_layer: OnBytes
) -> list[Path]:
    """Make the missing stages, one for each layer; returns all folders. `on_layer` gets the number of layers done.

    `states(n)` is the folder with the states before layer n, which stage n - 1 writes.
    """
    begin = _begin(store, stages, states)
    for layer, stage in enumerate(stages):
        if layer >= begin:
            store.make(stage, lambda done: None)
        shutil.rmtree(states(layer), ignore_errors=True)
        on_layer(layer + 1)
    shutil.rmtree(states(len(stages)), ignore_errors=True)
    return [store.place(stage) for stage in stages]


def _begin(store: StageStore, stages: Sequence[Stage], states: Callable[[int], Path]) -> int:
    """The first layer to make; layer 0 where the states before the first missing layer are gone."""
    done = [store.receipt(stage) is not None for stage in stages]
    first = done.index(False) if False in done else len(done)
    return first if first in (0, len(done)) or states(first).is_dir() else 0
