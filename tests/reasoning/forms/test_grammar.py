"""The automaton of times and intervals accepts what the form allows in the clip, and nothing else."""

from __future__ import annotations

import pytest
from answer_oracle import legal_intervals, legal_times

from edge_sdk.reasoning.forms.distribution import Belief, central, marginals
from edge_sdk.reasoning.forms.grammar import START, Grammar, State


def _end(grammar: Grammar, text: str) -> State | None:
    """The state behind `text`, None where it is refused."""
    state = START
    for byte in text.encode():
        after = grammar.after(state).get(byte)
        if after is None:
            return None
        state = after
    return state


def _accepts(grammar: Grammar, text: str) -> bool:
    state = _end(grammar, text)
    return state is not None and not grammar.after(state)


def _spoken(grammar: Grammar) -> set[str]:
    """Every answer, by walking all ways."""
    found, waiting = set(), [(b"", START)]
    while waiting:
        said, state = waiting.pop()
        following = grammar.after(state)
        waiting += [(said + bytes([byte]), after) for byte, after in following.items()]
        if not following:
            found.add(said.decode())
    return found


@pytest.mark.parametrize(
    ("first_s", "last_s", "first", "last"),
    [
        (0.0, 0.0, 0, 1),
        (0.0, 4.9, 0, 50),
        (0.083, 4.983, 0, 51),
        (9.55, 12.0, 94, 121),
        (98.3, 101.2, 982, 1013),
        (0.0, 600.0, 0, 6001),
        (599.9, 600.0, 5998, 6001),
        (999.7, 1000.2, 9996, 10003),
    ],
)
def test_every_tenth_of_the_clip_and_no_other(first_s: float, last_s: float, first: int, last: int) -> None:
    assert _spoken(Grammar("time", first_s, last_s)) == set(legal_times(first, last))


def test_frames_that_are_far_apart_stand_for_more() -> None:
    assert _spoken(Grammar("time", 0.0, 5.75, 0.25)) == set(legal_times(0, 60))
    assert _spoken(Grammar("time", 7.2, 8.95, 0.25)) == set(legal_times(69, 92))


@pytest.mark.parametrize(
    ("first_s", "last_s", "first", "last"), [(0.0, 0.0, 0, 1), (0.0, 2.4, 0, 25), (9.2, 10.7, 91, 108)]
)
def test_every_interval_that_ends_after_it_starts(first_s: float, last_s: float, first: int, last: int) -> None:
    assert _spoken(Grammar("interval", first_s, last_s)) == set(legal_intervals(first, last))


def test_a_long_clip_s_intervals_one_by_one() -> None:
    grammar = Grammar("interval", 0.0, 600.0)
    for text in ("0.0 - 600.1 seconds", "99.9 - 100.0 seconds", "600.0 - 600.1 seconds", "5.0 - 60.0 seconds"):
        assert _accepts(grammar, text)
    for text in (
        "600.1 - 600.1 seconds",
        "5.0 - 5.0 seconds",
        "5.1 - 5.0 seconds",
        "05.0 - 6.0 seconds",
        "00.0 - 6.0 seconds",
        "5 - 6.0 seconds",
        "5.00 - 6.0 seconds",
        "5.0 -6.0 seconds",
        "5.0 - 6.0 second",
        "5.0 - 6.0 seconds.",
        "5.0 - 600.2 seconds",
        "1000.0 - 1001.0 seconds",
        "-1.0 - 6.0 seconds",
    ):
        assert not _accepts(grammar, text)


def test_what_must_follow() -> None:
    grammar = Grammar("interval", 0.0, 9.0)
    for said, forced in {
        "": b"",
        "3": b".",
        "3.": b"",
        "3.2": b" - ",
        "3.2 - 8": b".",
        "8.9 - ": b"9.",
        "9.0 - ": b"9.1",
        "9": b".0 - 9.1",
    }.items():
        state = _end(grammar, said)
        assert state is not None
        assert grammar.forced(state)[0] == forced


def test_what_was_not_read_is_spread_over_what_it_can_become() -> None:
    grammar = Grammar("time", 0.0, 19.9)
    one, two, done = (_end(grammar, text) for text in ("1", "2.", "3.4"))
    assert one is not None
    assert two is not None
    assert done is not None
    (masses,) = marginals(grammar, [Belief(one, 0.5), Belief(two, 0.3), Belief(done, 0.2)])
    ones = [time for time in range(201) if str(time / 10).startswith("1")]
    assert masses.sum() == pytest.approx(1.0)
    assert masses[ones] == pytest.approx(0.5 / len(ones))
    assert masses[20:30] == pytest.approx(0.03)
    assert masses[34] == pytest.approx(0.2)


def test_ends_that_were_not_read_lie_behind_their_starts_as_those_that_were() -> None:
    grammar = Grammar("interval", 0.0, 9.8)
    said = {"2.0 - 3.0": 0.3, "2.0 - 7.0": 0.1, "4.0 - ": 0.4, "6.0 - ": 0.1, "9.8 - ": 0.1}
    states = {text: _end(grammar, text) for text in said}
    starts, ends = marginals(
        grammar, [Belief(state, said[text]) for text, state in states.items() if state is not None]
    )
    found = [{i: round(float(mass), 6) for i, mass in enumerate(masses) if mass > 1e-9} for masses in (starts, ends)]
    assert found[0] == {20: 0.4, 40: 0.4, 60: 0.1, 98: 0.1}
    # 1 s long in three cases of four, else 5 s, but for where the clip ends before.
    assert found[1] == {30: 0.3, 70: 0.1 + 0.1, 50: 0.3, 90: 0.1, 99: 0.1}
    assert central(starts) == (20, 60)
    assert central(ends) == (30, 90)
