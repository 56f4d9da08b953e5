from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.reasoning.cache.calls import CallShape, cut

SHAPES = [
    CallShape(prefill=prefill, step=step, rows=rows, fixed=fixed)
    for prefill, step, rows in ((16, 4, 2), (8, 8, 8), (5, 1, 1), (1, 1, 1))
    for fixed in (False, True)
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_calls_take_every_token_once_and_fit(shape: CallShape) -> None:
    random = np.random.default_rng(3)
    for _ in range(200):
        count = int(random.integers(1, 60))
        ends = sorted(random.choice(count, random.integers(0, min(count, 9) + 1), replace=False).tolist())
        room = count + shape.slack + int(random.integers(0, 40))
        calls = cut(count, ends, room, shape)
        assert [call.begin for call in calls] == np.cumsum([0, *(call.count for call in calls[:-1])]).tolist()
        assert sum(call.count for call in calls) == count
        for call in calls:
            assert 1 <= call.count <= call.width <= shape.prefill
            assert call.begin + call.width <= room
            assert call.width in ((shape.step, shape.prefill) if shape.fixed else (call.count,))
            held = ends[slice(*call.ends)]
            assert len(held) <= shape.rows
            assert held == [end for end in ends if call.begin <= end < call.begin + call.count]


def test_as_few_calls_as_the_tokens_need() -> None:
    shape = CallShape(prefill=16, step=4, rows=8)
    assert [call.count for call in cut(37, [36], 99, shape)] == [16, 16, 5]
    fixed = CallShape(prefill=16, step=4, rows=8, fixed=True)
    assert [(call.count, call.width) for call in cut(37, [36], 99, fixed)] == [(16, 16), (16, 16), (5, 16)]
    assert [(call.count, call.width) for call in cut(36, [35], 99, fixed)] == [(16, 16), (16, 16), (4, 4)]


def test_the_last_slots_go_in_short_calls() -> None:
    shape = CallShape(prefill=16, step=4, rows=8, fixed=True)
    assert [(call.count, call.width) for call in cut(9, [8], 12, shape)] == [(4, 4), (4, 4), (1, 4)]


def test_more_ends_than_rows_take_more_calls() -> None:
    calls = cut(6, [0, 1, 2, 3, 4, 5], 99, CallShape(prefill=16, step=4, rows=4))
    assert [(call.begin, call.count, call.ends) for call in calls] == [(0, 4, (0, 4)), (4, 2, (4, 6))]


@pytest.mark.parametrize("shape", [CallShape(fixed=True), CallShape()], ids=str)
def test_what_does_not_fit_is_refused_with_the_numbers(shape: CallShape) -> None:
    with pytest.raises(ConfigError, match=f"for 30 tokens and {shape.slack} of padding, found 29 slots"):
        cut(30, [], 29, shape)


@pytest.mark.parametrize(("prefill", "step", "rows"), [(4, 8, 8), (8, 0, 8), (8, 8, 0)])
def test_useless_shapes_are_refused(prefill: int, step: int, rows: int) -> None:
    with pytest.raises(ConfigError, match="a step no longer than a prefill"):
        CallShape(prefill=prefill, step=step, rows=rows)
