"""A prefix over a session that shows what each token attended, against paths kept as plain lists."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from decoder_double import HIDDEN, STATE, DoubleSession, expected_logits
from toy_graphs import Part
from toy_model import decoder_weights

from edge_sdk.engine.tensorrt_library import runtime_dialects
from edge_sdk.errors import ConfigError, RuntimeFailure
from edge_sdk.reasoning.cache.calls import CallShape
from edge_sdk.reasoning.cache.prefix import Addition, Prefix
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import Array, SessionOptions
from edge_sdk.types import Dialect

SHAPES = [CallShape(prefill=16, step=4, rows=3, fixed=fixed) for fixed in (False, True)]
SLOTS = 200


def rows(random: np.random.Generator, count: int) -> Array:
    return random.integers(1, 9, (count, HIDDEN)).astype(np.float32)


def opened(shape: CallShape, slots: int = SLOTS, **settings: object) -> tuple[Prefix, DoubleSession]:
    session = DoubleSession(slots)
    return Prefix(session, STATE, shape=shape, **settings), session  # type: ignore[arg-type]


class Paths:
    """The clip and every node's whole path, as plain arrays."""

    def __init__(self) -> None:
        self.nodes = [np.zeros((0, HIDDEN), np.float32)]

    def append(self, new: Array) -> None:
        self.nodes = [np.concatenate([self.nodes[0], new])]

    def grow(self, parent: int, new: Array) -> Array:
        self.nodes.append(np.concatenate([self.nodes[parent], new]))
        return expected_logits(self.nodes[-1])


@pytest.mark.parametrize("shape", SHAPES, ids=["free", "fixed"])
@pytest.mark.parametrize("seed", range(12))
def test_any_story_gives_each_token_its_own_path(shape: CallShape, seed: int) -> None:
    random = np.random.default_rng(seed)
    prefix, session = opened(shape)
    paths, marks = Paths(), [prefix.mark()]
    for _ in range(40):
        act = random.integers(6)
        count = int(random.integers(1, 30))
        if act == 0 and count <= prefix.slots - prefix.tokens - shape.slack:
            new = rows(random, count)
            prefix.append(new)
            paths.append(new)
            marks.append(prefix.mark())
        elif act == 1:
            prefix.forget_branches()
            paths.nodes = paths.nodes[:1]
        elif act == 2:
            marks = marks[: int(random.integers(1, len(marks) + 1))]
            prefix.rewind(marks[-1])
            paths.nodes = [paths.nodes[0][: marks[-1].tokens]]
        elif prefix.tokens:
            lengths = random.integers(1, 9, random.integers(1, 7))
            if lengths.sum() > prefix.free:
                continue
            additions = [Addition(int(random.integers(prefix.nodes)), rows(random, n)) for n in lengths]
            first = prefix.nodes
            found = prefix.grow(additions)
            assert [(each.place, each.node) for each in found] == [(i, first + i) for i in range(len(additions))]
            expected = [paths.grow(*each) for each in additions]
            np.testing.assert_array_equal([each.logits for each in found], expected)
    widths = {call["embeds"].shape[1] for call in session.calls}
    assert not shape.fixed or widths <= {4, 16}
    assert not shape.fixed or {len(call["rows"]) for call in session.calls} == {3}


@pytest.mark.parametrize("shape", SHAPES, ids=["free", "fixed"])
@pytest.mark.parametrize("piece", [1, 3, 16, 17, 70])
def test_the_calls_are_the_same_however_the_frames_come(shape: CallShape, piece: int) -> None:
    clip = rows(np.random.default_rng(0), 70)
    question = Addition(0, rows(np.random.default_rng(1), 9))
    whole, streamed = opened(shape), opened(shape)
    whole[0].append(clip)
    for start in range(0, 70, piece):
        streamed[0].append(clip[start : start + piece])
    for prefix, _ in (whole, streamed):
        prefix.grow([question])
    assert len(whole[1].calls) == len(streamed[1].calls) == 5
    for ours, theirs in zip(whole[1].calls, streamed[1].calls, strict=True):
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_questions_go_in_together_and_with_the_rest_of_the_clip() -> None:
    random = np.random.default_rng(0)
    prefix, session = opened(CallShape(prefill=64, step=8, rows=8, fixed=True))
    prefix.append(rows(random, 70))
    assert (len(session.calls), prefix.used, prefix.tokens) == (1, 70, 70)
    prefix.grow([Addition(0, rows(random, 9)) for _ in range(6)])
    assert [call["embeds"].shape[1] for call in session.calls] == [64, 64]
    prefix.grow([Addition(1 + i, rows(random, 1)) for i in range(6)])
    assert [call["embeds"].shape[1] for call in session.calls] == [64, 64, 8]
    assert prefix.calls == 3


@pytest.mark.parametrize("shape", SHAPES, ids=["free", "fixed"])
def test_a_prefix_can_be_filled_to_what_it_says(shape: CallShape) -> None:
    random = np.random.default_rng(0)
    prefix, _ = opened(shape, 64)
    clip, question = rows(random, 40), rows(random, 64 - 40 - shape.slack)
    prefix.append(clip)
    assert prefix.free == len(question)
    (found,) = prefix.grow([Addition(0, question)])
    np.testing.assert_array_equal(found.logits, expected_logits(np.concatenate([clip, question])))
    assert prefix.free == 0
    with pytest.raises(ConfigError, match="expected room for 1 tokens, found 0 free of 64 slots"):
        prefix.grow([Addition(0, rows(random, 1))])


def test_what_cannot_fit_is_refused_before_anything_is_written() -> None:
    random = np.random.default_rng(0)
    prefix, session = opened(SHAPES[0], 64, buckets=(64, 128, 256))
    clip = rows(random, 40)
    prefix.append(clip)
    calls = len(session.calls)
    message = "expected room for 30 tokens, found 24 free of 64 slots, where the clip has 40 and its questions 0; use"
    with pytest.raises(ConfigError, match=re.escape(f"{message} the graph of 128 slots")):
        prefix.grow([Addition(0, rows(random, 15)), Addition(0, rows(random, 15))])
    with pytest.raises(ConfigError, match="use fewer frames, or export a decoder of 340 slots"):
        prefix.append(rows(random, 300))
    with pytest.raises(ConfigError, match=re.escape("expected a node of 0..0, found 1")):
        prefix.grow([Addition(0, rows(random, 1)), Addition(1, rows(random, 1))])
    assert (len(session.calls), prefix.used, prefix.nodes) == (calls, 40, 1)
    (found,) = prefix.grow([Addition(0, clip[:2])])
    np.testing.assert_array_equal(found.logits, expected_logits(np.concatenate([clip, clip[:2]])))


def test_a_clip_grows_where_its_questions_were() -> None:
    random = np.random.default_rng(0)
    prefix, _ = opened(SHAPES[1], 48)
    clip, more = rows(random, 20), rows(random, 20)
    prefix.append(clip)
    prefix.grow([Addition(0, rows(random, 20))])
    prefix.append(more)
    (found,) = prefix.grow([Addition(0, clip[:1])])
    np.testing.assert_array_equal(found.logits, expected_logits(np.concatenate([clip, more, clip[:1]])))


def test_a_mark_is_of_its_clip() -> None:
    random = np.random.default_rng(0)
    prefix, _ = opened(SHAPES[0])
    prefix.append(rows(random, 20))
    mark = prefix.mark()
    prefix.reset()
    with pytest.raises(ConfigError, match=re.escape("found 20 tokens of clip 0 in clip 1")):
        prefix.rewind(mark)
    prefix.append(rows(random, 20))
    late = prefix.mark()
    prefix.append(rows(random, 5))
    prefix.rewind(late)
    assert prefix.tokens == 20


@pytest.mark.parametrize("stop_at", range(1, 6))
def test_a_stop_between_calls_loses_branches_and_nothing_else(stop_at: int) -> None:
    random = np.random.default_rng(0)

    class Stop(Exception):
        pass

    def on_call() -> None:
        if prefix.calls == stop_at:
            raise Stop

    prefix, _ = opened(SHAPES[0], on_call=on_call)
    clip, questions = rows(random, 40), [Addition(0, rows(random, 15)) for _ in range(3)]
    try:
        prefix.append(clip)
        prefix.grow(questions)
    except Stop:
        pass
    assert (prefix.tokens, prefix.nodes) == (40, 1)
    found = prefix.grow(questions)
    expected = [expected_logits(np.concatenate([clip, each.embeds])) for each in questions]
    np.testing.assert_array_equal([each.logits for each in found], expected)


def test_each_question_is_told_as_soon_as_its_call_is_done() -> None:
    random = np.random.default_rng(0)
    prefix, session = opened(SHAPES[0])
    prefix.append(rows(random, 4))
    growing = prefix.growing([Addition(0, rows(random, 12)) for _ in range(4)])
    assert (next(growing).place, len(session.calls)) == (0, 1)
    growing.close()
    assert (prefix.nodes, prefix.used) == (1, 4)
    assert prefix.grow([]) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_not_taken_in(bad: float) -> None:
    prefix, session = opened(SHAPES[0])
    poisoned = np.ones((3, HIDDEN), np.float32)
    poisoned[1, 0] = bad
    with pytest.raises(RuntimeFailure, match="1 of 6 values for the decoder are not finite"):
        prefix.append(poisoned)
    prefix.append(np.ones((3, HIDDEN), np.float32))
    with pytest.raises(RuntimeFailure, match="1 of 6 values"):
        prefix.grow([Addition(0, poisoned)])
    assert (prefix.used, session.calls) == (3, [])


def test_logits_that_are_not_finite_empty_the_cache_at_the_next_reset() -> None:
    prefix, session = opened(SHAPES[0])
    prefix.append(np.full((3, HIDDEN), np.float32(3e38)))
    assert not np.isfinite(prefix.grow([Addition(0, np.full((1, HIDDEN), np.float32(3e38)))])[0].logits).all()
    prefix.reset()
    prefix.append(np.ones((3, HIDDEN), np.float32))
    prefix.grow([Addition(0, np.ones((1, HIDDEN), np.float32))])
    prefix.reset()
    assert session.resets == 1


@pytest.mark.parametrize("shape", SHAPES, ids=["free", "fixed"])
@pytest.mark.parametrize("dialect", ["native", "decomposed"])
def test_a_clip_that_overflows_and_is_never_asked_does_not_spoil_the_next(
    dialect: Dialect, shape: CallShape, tmp_path: Path
) -> None:
    """The decoder is a real one: what is not a number in a slot that may not be attended spoils its sums."""
    if dialect not in runtime_dialects("ort"):
        pytest.skip(f"this release of onnxruntime does not read {dialect} graphs")
    part = Part.write(tmp_path, "decoder", decoder_weights(8, 64, 3))
    graph = part.decoder("decoder", dialect, 64, switchable=False)
    session = open_runtime("ort").open(tmp_path / Path(graph.file).name, graph, SessionOptions())
    prefix = Prefix(session, graph.state, shape=shape)
    clip = np.random.default_rng(0).standard_normal((40, prefix.hidden)).astype(np.float32)
    prefix.append(clip[:20])
    (expected,) = prefix.grow([Addition(0, clip[:3])])
    assert np.isfinite(expected.logits).all()
    prefix.reset()
    prefix.append(np.concatenate([clip[:30], np.full((20, prefix.hidden), np.float32(3e38))])[:48])
    prefix.reset()
    prefix.append(clip[:20])
    (found,) = prefix.grow([Addition(0, clip[:3])])
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-5, atol=1e-5)


def test_the_cache_is_emptied_only_where_no_logits_have_looked_at_all_of_it() -> None:
    random = np.random.default_rng(0)
    prefix, session = opened(SHAPES[0])
    for _ in range(2):
        prefix.append(rows(random, 40))
        prefix.grow([Addition(0, rows(random, 9)), Addition(0, rows(random, 12))])
        prefix.reset()
    assert session.resets == 0
    prefix.append(rows(random, 40))
    prefix.grow([Addition(0, rows(random, 9))])
    prefix.append(rows(random, 40))  # more of the clip, which nobody asks about
    prefix.reset()
    prefix.reset()
    assert session.resets == 1
    prefix.append(rows(random, 20))
    growing = prefix.growing([Addition(0, rows(random, 30)), Addition(0, rows(random, 30))])
    next(growing)
    growing.close()
    prefix.grow([Addition(0, rows(random, 2))])  # ends before what was given up
    prefix.reset()
    assert session.resets == 2


@pytest.mark.parametrize("wrong", [(0, HIDDEN), (3, HIDDEN + 1), (3,)])
def test_other_shapes_are_refused(wrong: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=re.escape("expected rows [n, 2] for the decoder, found")):
        opened(SHAPES[0])[0].append(np.ones(wrong, np.float32))


def test_the_memory_is_stated() -> None:
    prefix, _ = opened(CallShape(prefill=16, rows=3), slots=1000)
    cache, mask, others = 1000 * HIDDEN * 4, 16 * 1000, 16 * (HIDDEN * 4 + 8) + 8 + 3 * 8
    assert prefix.memory_mb == pytest.approx((cache + mask + others) / 1e6)


def test_a_step_allocates_no_mask_and_hands_on_the_same_inputs() -> None:
    prefix, session = opened(SHAPES[1])
    prefix.append(np.ones((3, HIDDEN), np.float32))
    (question,) = prefix.grow([Addition(0, np.ones((2, HIDDEN), np.float32))])
    prefix.grow([Addition(question.node, np.ones((1, HIDDEN), np.float32))])
    assert session.places[0] == session.places[1]
