"""Stages that follow each other layer by layer, with states on the disk between them.

The states in front of a layer are removed only when what it gives stands, so that a stopped run goes on at the layer
that it was in.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_sdk.export.stage_store import OnBytes, Stage, StageStore


def run_layers(
    store: StageStore, stages: Sequence[Stage], states: Callable[[int], Path], on_layer: OnBytes, *, keep: bool = False
) -> list[Path]:
    """Make the stages that are not there yet, one for each layer; their folders. `on_layer` is told how many are done.

    `states(n)` is the folder with the states in front of layer n, which stage n - 1 leaves. `keep`: those behind the
    last layer are left, and where they are gone every layer is made again.
    """
    begin = _begin(store, stages, states, keep)
    for layer, stage in enumerate(stages):
        if layer >= begin:
            store.make(stage, lambda done: None)
        shutil.rmtree(states(layer), ignore_errors=True)
        on_layer(layer + 1)
    if not keep:
        shutil.rmtree(states(len(stages)), ignore_errors=True)
    return [store.place(stage) for stage in stages]


def _begin(store: StageStore, stages: Sequence[Stage], states: Callable[[int], Path], keep: bool) -> int:
    """The first layer to make: all of them where the states in front of it are gone."""
    done = [store.receipt(stage) is not None for stage in stages]
    first = done.index(False) if False in done else len(done)
    if first == 0 or (first == len(done) and not keep):
        return first
    return first if states(first).is_dir() else 0
