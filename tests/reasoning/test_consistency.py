"""What contradicts what: answers among themselves, and answers and the student."""

from __future__ import annotations

import msgspec
import pytest

from edge_sdk.events import Event
from edge_sdk.reasoning.answer import Answer
from edge_sdk.reasoning.consistency import compared, contradictions, denies
from edge_sdk.tasks import find_task


def _said(task: str, text: str = "", **more: object) -> Answer:
    values: dict[str, object] = {"yes_no": text == "Yes"} if find_task(task).form == "yes_no" else {}
    given = {"value": next(iter(values.values()), None), "probability": 0.9, "abstain": False, **more}
    return Answer(task=task, form=find_task(task).form, text=text, **given)  # type: ignore[arg-type]


YES, NO = _said("recognition", "Yes"), _said("recognition", "No")
CRASH, QUIET = _said("description", "car hits a truck"), _said("description", "no collision.")
CAUSE, NO_CAUSE = _said("cause", "The car changes lanes."), _said("cause", "No accident, no cause.")


def _interval(start: tuple[float, float], end: tuple[float, float]) -> Answer:
    value = (sum(start) / 2, sum(end) / 2)
    return _said("crash_interval", "…", value=value, lo=(start[0], end[0]), hi=(start[1], end[1]))


def _sign(low: float, high: float) -> Answer:
    return _said("pre_crash_time", "…", value=(low + high) / 2, lo=low, hi=high)


def _event(
    state: str = "closed",
    start: tuple[float, float] = (4.0, 5.0),
    end: tuple[float, float] | None = (6.0, 7.0),
    sign: tuple[float, float] | None = (2.0, 3.0),
) -> Event:
    def estimate(span: tuple[float, float] | None) -> dict[str, float] | None:
        return None if span is None else {"t": sum(span) / 2, "lo": span[0], "hi": span[1]}

    return msgspec.convert(
        {
            "id": "a",
            "revision": 1,
            "state": state,
            "source": "clip",
            "timeline": {
                "crash_start": estimate(start),
                "crash_end": estimate(end),
                "pre_crash_start": estimate(sign),
            },
            "score": 0.9,
            "calibrated": True,
            "trigger": "student",
            "time": {"monotonic_s": 1.0},
            "provenance": {"bundle": "b", "bundle_sha256": "0", "runtime": "ort", "config_sha256": "0"},
        },
        Event,
    )


def test_denials_are_recognised() -> None:
    assert (denies(YES), denies(NO)) == (False, True)
    assert (denies(CRASH), denies(QUIET), denies(CAUSE), denies(NO_CAUSE)) == (False, True, False, True)
    assert denies(_said("description", " No  collision ")) is True
    assert denies(_said("description", "no collision, but a near miss")) is True
    assert denies(_said("cause", "No accident appears in the clip.")) is True
    assert denies(_said("cause", "The driver had no accident before.")) is False
    assert denies(_said("description", "no collisions")) is False
    assert denies(_said("prevention", "No accident, no prevention needed.")) is True
    assert denies(_sign(1.0, 2.0)) is None
    assert denies(msgspec.structs.replace(NO, abstain=True)) is None


@pytest.mark.parametrize(
    ("answer", "other", "contradicts"),
    [
        (YES, CRASH, False),
        (YES, QUIET, True),
        (NO, QUIET, False),
        (NO, CRASH, True),
        (QUIET, CAUSE, True),
        (NO_CAUSE, QUIET, False),
        (_interval((4.0, 5.0), (6.0, 7.0)), YES, False),
        (_interval((4.0, 5.0), (6.0, 7.0)), NO, True),
        (_sign(3.0, 3.5), _interval((4.0, 5.0), (6.0, 7.0)), False),
        (_sign(5.9, 6.5), _interval((4.0, 5.0), (6.0, 7.0)), False),
        (_sign(6.1, 6.5), _interval((4.0, 5.0), (6.0, 7.0)), True),
        (_interval((4.0, 5.0), (6.0, 7.0)), _sign(6.1, 6.5), True),
    ],
)
def test_two_answers(answer: Answer, other: Answer, contradicts: bool) -> None:
    said = contradictions(answer, [answer, other], None)
    assert said is not None
    assert bool(said) is contradicts
    if contradicts:
        assert other.task in said[0]


@pytest.mark.parametrize("other", [_sign(1.0, 2.0), _interval((1.0, 2.0), (3.0, 4.0))])
def test_a_denial_is_not_compared_with_a_time_that_had_to_be_given(other: Answer) -> None:
    assert contradictions(NO, [other], None) is None


@pytest.mark.parametrize(
    ("answer", "contradicts"),
    [
        (YES, False),
        (NO, True),
        (CRASH, False),
        (QUIET, True),
        (_interval((6.9, 7.5), (7.4, 8.0)), False),
        (_interval((7.9, 8.0), (9.0, 9.5)), False),
        (_interval((8.1, 8.2), (9.0, 9.5)), True),
        (_interval((0.5, 1.0), (2.5, 2.9)), True),
        (_interval((0.5, 1.0), (2.5, 3.0)), False),
        (_sign(0.4, 0.9), True),
        (_sign(0.4, 1.0), False),
        (_sign(4.1, 4.4), True),
    ],
)
def test_an_answer_and_a_crash_that_the_student_saw(answer: Answer, contradicts: bool) -> None:
    for state in ("confirmed", "refined", "closed"):
        said = contradictions(answer, [], [_event(state)])
        assert said is not None
        assert bool(said) is contradicts


@pytest.mark.parametrize("events", [[], [_event("rejected")]])
def test_an_answer_where_the_student_saw_none(events: list[Event]) -> None:
    assert contradictions(NO, [], events) == ()
    assert contradictions(QUIET, [], events) == ()
    for answer in (YES, CRASH, _sign(1.0, 2.0), _interval((1.0, 2.0), (3.0, 4.0))):
        assert contradictions(answer, [], events) == ("the student saw no crash",)


def test_touching_one_of_several_crashes_is_enough() -> None:
    events = [_event(), _event(start=(20.0, 21.0), end=(22.0, 23.0))]
    assert contradictions(_interval((20.0, 20.5), (21.0, 21.5)), [], events) == ()
    said = contradictions(_interval((10.0, 10.5), (11.0, 11.5)), [], events)
    assert said == ("the student saw it at 4.0-7.0 s, 20.0-23.0 s",)


def test_a_crash_without_an_end_goes_on() -> None:
    said = contradictions(_interval((50.0, 50.5), (51.0, 51.5)), [], [_event("confirmed", end=None)])
    assert said == ()
    assert contradictions(_interval((0.1, 0.2), (0.3, 0.4)), [], [_event("confirmed", end=None)]) == (
        "the student saw it at 4.0 s and later",
    )


def test_events_count_from_the_first_frame_and_answers_from_the_container_s_zero() -> None:
    answer = _interval((8.1, 8.2), (9.0, 9.5))
    assert contradictions(answer, [], [_event()], offset_s=0.0) != ()
    assert contradictions(answer, [], [_event()], offset_s=0.2) == ()


def test_where_there_is_nothing_to_compare_with_it_is_not_said_to_agree() -> None:
    assert contradictions(YES, [], None) is None
    assert contradictions(YES, [], [_event("provisional")]) is None
    assert contradictions(_sign(1.0, 2.0), [], [_event(sign=None)]) is None
    assert contradictions(msgspec.structs.replace(YES, abstain=True), [NO, QUIET], [_event()]) is None
    assert contradictions(YES, [msgspec.structs.replace(QUIET, abstain=True)], None) is None
    assert contradictions(YES, [], [_event("provisional"), _event("closed")]) == ()


def test_all_answers_are_marked() -> None:
    answers = {each.task: each for each in (YES, QUIET, NO_CAUSE)}
    found = compared(answers, [_event()])
    assert {task: answer.contradiction for task, answer in found.items()} == {
        "recognition": True,
        "description": True,
        "cause": True,
    }
    assert compared({"recognition": YES}, None)["recognition"].contradiction is None
    assert compared({"recognition": YES, "cause": CAUSE}, None)["cause"].contradiction is False
