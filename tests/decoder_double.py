"""A decoder session that computes nothing a decoder would, but shows what each token of a call was allowed to attend.

Its cache holds the embeddings as they came. The logits of a row are: how many slots it attends, the sum of what lies in
them, the sum of each times its place in the path, and the row's own position; so that a wrong mask, slot, position or
row shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.runtime import Array, BoundState, Feeds
from edge_sdk.tensors import check_feeds
from edge_sdk.types import StateSpec, TensorSpec

HIDDEN = 2
STATE = (StateSpec(input="past_key.0", output="new_key.0", kind="append", axis=2, index="write_index"),)


class DoubleSession:
    """A session with `slots`; `calls` are the feeds of every call, copied, and `places` where they lay."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.calls: list[dict[str, Array]] = []
        self.places: list[dict[str, int]] = []
        self.inputs = (
            TensorSpec(name="embeds", dtype="float32", shape=(1, "q", HIDDEN)),
            TensorSpec(name="position_ids", dtype="int64", shape=(1, "q")),
            TensorSpec(name="mask", dtype="bool", shape=(1, 1, "q", slots)),
            TensorSpec(name="write_index", dtype="int64", shape=(1,)),
            TensorSpec(name="rows", dtype="int64", shape=("r",)),
            TensorSpec(name="past_key.0", dtype="float32", shape=(1, 1, slots, HIDDEN)),
        )
        self.outputs = (TensorSpec(name="logits", dtype="float32", shape=("r", 4)),)
        self.resets = 0

    def bind_state(self, state: Sequence[StateSpec], dims: Mapping[str, int]) -> BoundState:
        return DoubleBound(self)

    def run(self, feeds: Feeds) -> dict[str, Array]:
        raise AssertionError("a prefix runs its decoder with the state bound")

    def close(self) -> None:
        """Nothing is held."""


class DoubleBound:
    def __init__(self, session: DoubleSession) -> None:
        self.session = session
        self.kept = np.full((session.slots, HIDDEN), np.nan)
        self.places = np.full(session.slots, np.nan)

    def run(self, feeds: Feeds) -> dict[str, Array]:
        check_feeds(self.session.inputs[:5], feeds, {})
        self.session.calls.append({name: array.copy() for name, array in feeds.items()})
        self.session.places.append({name: array.ctypes.data for name, array in feeds.items()})
        start, width = int(feeds["write_index"][0]), feeds["embeds"].shape[1]
        assert start + width <= self.session.slots
        self.kept[start : start + width] = feeds["embeds"][0]
        self.places[start : start + width] = feeds["position_ids"][0]
        found = [self._row(feeds["mask"][0, 0, row], feeds["position_ids"][0, row]) for row in feeds["rows"]]
        with np.errstate(over="ignore"):
            return {"logits": np.array(found, np.float32).reshape(-1, 4)}

    def _row(self, attended: Array, position: int) -> list[float]:
        values, places = self.kept[attended], self.places[attended]
        return [attended.sum(), values.sum(), values[:, 0] @ (places + 1), position]

    def limit(self, rows: int) -> int | None:
        return None

    def reset(self) -> None:
        self.session.resets += 1
        self.kept[:] = 0

    def read(self, name: str) -> Array:
        return self.kept.copy()

    def write(self, name: str, value: Array) -> None:
        self.kept[:] = value


def expected_logits(path: Array) -> Array:
    """What `DoubleSession` says after the last of the rows `path [n, hidden]`, which are one whole sequence."""
    places = np.arange(len(path)) + 1
    return np.array([len(path), path.sum(), path[:, 0] @ places, len(path) - 1], np.float32)
