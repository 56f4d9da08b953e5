"""Find contradictions between answers, and between answers and what the student saw.

The student has watched every frame, the video LLM only a few, and neither is always right. So a contradiction is
reported but not resolved. An answer that abstains claims nothing and is not compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import inf

import msgspec

from edge_sdk.events.record import Event
from edge_sdk.reasoning.answer import Answer, Span
from edge_sdk.tasks import find_task, in_words

MARGIN_S = 1.0
"""Allowed gap between two times beyond their own intervals: evaluation counts a start within 1 s as found."""


def denies(answer: Answer) -> bool | None:
    """Return whether the answer says that there is no crash; None if it abstains or cannot say so, such as a time.

    A text denies a crash if `says_none` holds for it.
    """
    if answer.abstain or find_task(answer.task).negative is None:
        return None
    return not answer.value if isinstance(answer.value, bool) else says_none(answer.task, answer.text)


def says_none(task: str, text: str) -> bool:
    """Return whether a text begins like the task's sentence for clips without a crash ("no collision", "No accident").

    Case is ignored, and so is the rest of the text. False for a task that has no such sentence.
    """
    negative = find_task(task).negative
    if negative is None:
        return False
    clause = re.escape(negative.split(",")[0].rstrip("."))
    return re.match(rf"{clause}\b", " ".join(text.split()), re.IGNORECASE) is not None


def contradictions(
    answer: Answer, others: Sequence[Answer], events: Sequence[Event] | None, *, offset_s: float = 0.0
) -> tuple[str, ...] | None:
    """Return one sentence for each contradiction of `answer`; None if there was nothing to compare it with.

    `events` are the student's events of the same clip, the last revision of each; None if no student watched. An event
    that is still provisional says neither yes nor no. `offset_s` is the prompt's time of the first decoded frame, at
    which the events' clock starts.
    """
    if answer.abstain:
        return None
    known = [other for other in others if other.task != answer.task and not other.abstain]
    compared = [*(_with(answer, other) for other in known)]
    if events is not None:
        compared += _with_student(answer, events, offset_s)
    said = [each for each in compared if each is not None]
    return tuple(each for each in said if each) if said else None


def compared(
    answers: Mapping[str, Answer], events: Sequence[Event] | None, *, offset_s: float = 0.0
) -> dict[str, Answer]:
    """Return `answers`, by task, each with its `contradiction` set."""
    found = {}
    for task, answer in answers.items():
        others = [other for name, other in answers.items() if name != task]
        said = contradictions(answer, others, events, offset_s=offset_s)
        found[task] = msgspec.structs.replace(answer, contradiction=None if said is None else bool(said))
    return found


def _with(answer: Answer, other: Answer) -> str | None:
    """Say how two answers contradict; empty if they agree, None if they are about different things.

    A time contradicts a denial but not the reverse, because a model asked for a time cannot say that there is none.
    """
    mine, theirs = denies(answer), denies(other)
    if mine is not None and theirs is not None:
        return f"{other.task} says {in_words(other.value, other.text)!r}" if mine != theirs else ""
    if theirs is not None:
        return f"{other.task} says {in_words(other.value, other.text)!r}" if theirs else ""
    early, late = _order(answer, other)
    if early is None or late is None:
        return None
    behind = early[0] > late[1] + MARGIN_S
    said = in_words(other.value, other.text)
    return f"{other.task} says {said!r}: the first sign cannot follow the crash" if behind else ""


def _order(answer: Answer, other: Answer) -> tuple[Span | None, Span | None]:
    """From a first sign and a crash, in either order, return the span of the sign and that of the crash's start."""
    by_form = {answer.form: answer, other.form: other}
    sign, crash = by_form.get("time"), by_form.get("interval")
    if sign is None or crash is None:
        return None, None
    starts = [each[0] for each in (crash.lo, crash.hi) if isinstance(each, tuple)]
    return _span(sign), (starts[0], starts[1]) if len(starts) == 2 else None


def _with_student(answer: Answer, events: Sequence[Event], offset_s: float) -> Iterator[str | None]:
    seen = [event for event in events if event.state not in ("provisional", "rejected")]
    if not seen and any(event.state == "provisional" for event in events):
        return
    denied, span = denies(answer), _span(answer)
    if denied is not None:
        yield _verdict(denied, bool(seen))
    elif answer.form in ("time", "interval") and span is not None:
        spans = [each for each in (_student_span(answer, event, offset_s) for event in seen) if each is not None]
        if not seen:
            yield "the student saw no crash"
        elif spans:
            touches = any(span[0] <= end + MARGIN_S and span[1] >= start - MARGIN_S for start, end in spans)
            yield "" if touches else f"the student saw it at {_named(spans)}"


def _verdict(denied: bool, seen: bool) -> str:
    if denied == seen:
        return "the student saw a crash" if seen else "the student saw no crash"
    return ""


def _span(answer: Answer) -> Span | None:
    """Return the span in seconds of an answer's times, including its uncertainty."""
    low, high = answer.lo, answer.hi
    if isinstance(low, tuple) and isinstance(high, tuple):
        return low[0], high[1]
    if isinstance(low, float) and isinstance(high, float):
        return low, high
    return None


def _student_span(answer: Answer, event: Event, offset_s: float) -> Span | None:
    """Return the student's span in seconds for what `answer` is about; None if its timeline does not say."""
    line = event.timeline
    if answer.form == "time":
        sign = line.pre_crash_start
        return None if sign is None else (sign.lo + offset_s, sign.hi + offset_s)
    if line.crash_start is None:
        return None
    end_s = inf if line.crash_end is None else line.crash_end.hi
    return line.crash_start.lo + offset_s, end_s + offset_s


def _named(spans: Sequence[Span]) -> str:
    return ", ".join(f"{start:.1f} s and later" if end == inf else f"{start:.1f}-{end:.1f} s" for start, end in spans)
