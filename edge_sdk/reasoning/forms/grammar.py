"""The legal times and intervals, as an automaton over bytes: "d.d seconds", "d.d - d.d seconds".

A state is reachable only if it can still lead to a legal answer: numbers have no leading zero and one decimal and lie
inside the clip, and an interval ends after it starts. Because states advance by bytes, a vocabulary may split the text
anywhere.

Form: every answer of CrashChat's test annotations to the two localisation tasks (1,162 of 1,162 each).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from edge_sdk.errors import ConfigError

TENTHS = 10
_DOT, _ZERO = ord("."), ord("0")
# Keeps 4.9 + 0.1 from counting as more than 5.0.
_ROUNDING = 1e-6

PARTS: dict[str, tuple[bytes | None, ...]] = {
    "time": (None, b" seconds"),
    "interval": (None, b" - ", None, b" seconds"),
}
"""The text of each form, part by part; None stands for a number."""


class State(NamedTuple):
    """A position in the text: the `part`, `at` bytes into it, and for a number its integer part so far.

    `times` are the complete numbers, in tenths of a second.
    """

    part: int = 0
    at: int = 0
    number: int = 0
    dot: bool = False
    times: tuple[int, ...] = ()


START = State()


class Grammar:
    """The legal answers of one form for one clip; `first..last` are the earliest and latest time, in tenths."""

    def __init__(self, form: str, first_s: float, last_s: float, period_s: float = 0.1) -> None:
        """Set the limits from `first_s` and `last_s`, the times of the clip's first and last frame.

        Answers may lie up to `period_s`, the duration of one frame, outside these limits: 5.0 s is common in labels of
        clips whose last frame is at 4.9 s. Raises `ConfigError` for times that are not finite or not in order.
        """
        if not (math.isfinite(first_s) and math.isfinite(last_s) and first_s <= last_s):
            raise ConfigError(f"expected the times of a clip's first and last frame, found {first_s} and {last_s}")
        self._parts = PARTS[form]
        self.numbers = self._parts.count(None)
        self.first = max(0, math.floor((first_s - period_s) * TENTHS + _ROUNDING))
        self.last = max(self.first + self.numbers - 1, math.ceil((last_s + period_s) * TENTHS - _ROUNDING))
        self._after: dict[State, Mapping[int, State]] = {}

    def after(self, state: State) -> Mapping[int, State]:
        """Return the bytes that may follow, ascending, each with the state after it; empty at the end of an answer."""
        if state not in self._after:
            self._after[state] = self._follow(state)
        return self._after[state]

    def told(self, state: State) -> bool:
        """Return whether every number is complete, so that the rest of the text is known."""
        return len(state.times) == self.numbers

    def begun(self, state: State) -> bool:
        """Return whether the next number has at least one digit."""
        return not self.told(state) and self._parts[state.part] is None and state.at > 0

    def forced(self, state: State) -> tuple[bytes, State]:
        """Return the bytes that must follow, up to a choice or the last number's end, and the state after them."""
        said = bytearray()
        while not self.told(state) and len(self.after(state)) == 1:
            ((byte, state),) = self.after(state).items()
            said.append(byte)
        return bytes(said), state

    def ending(self, state: State, *, short: bool) -> bytes:
        """Return one path from `state` to the end: with the shortest and lowest numbers, or the longest and highest."""
        said = bytearray()
        while options := self.after(state):
            byte = _DOT if short and _DOT in options else (min if short else max)(options)
            said.append(byte)
            state = options[byte]
        return bytes(said)

    def text(self, times: tuple[int, ...]) -> str:
        """Return the answer's text for these numbers, in tenths."""
        numbers = iter(f"{time // TENTHS}.{time % TENTHS}" for time in times)
        return "".join(next(numbers) if part is None else part.decode() for part in self._parts)

    def reach(self, state: State) -> list[tuple[int, int]]:
        """Return the possible values of the next number: ranges in tenths, both ends included."""
        low, high = self._bounds(state.times)
        if state.dot:
            ranges = [(state.number * TENTHS, state.number * TENTHS + 9)]
        elif state.at:
            ranges = list(_longer(state.number, high))
        else:
            ranges = [(low, high)]
        return [(max(start, low), min(end, high)) for start, end in ranges if start <= high and end >= low]

    def _bounds(self, times: tuple[int, ...]) -> tuple[int, int]:
        low = times[-1] + 1 if times else self.first
        return low, self.last - (self.numbers - 1 - len(times))

    def _follow(self, state: State) -> dict[int, State]:
        if state.part == len(self._parts):
            return {}
        part = self._parts[state.part]
        if part is None:
            return self._decimal(state) if state.dot else self._integer(state)
        if state.at + 1 == len(part):
            return {part[state.at]: State(part=state.part + 1, times=state.times)}
        return {part[state.at]: State(part=state.part, at=state.at + 1, times=state.times)}

    def _decimal(self, state: State) -> dict[int, State]:
        ((start, end),) = self.reach(state)
        tenths = range(start, end + 1)
        return {_ZERO + time % TENTHS: State(part=state.part + 1, times=(*state.times, time)) for time in tenths}

    def _integer(self, state: State) -> dict[int, State]:
        part, at, number, _, times = state
        low, high = self._bounds(times)
        found = {}
        if at and number * TENTHS <= high and number * TENTHS + 9 >= low:
            found[_DOT] = State(part, at, number, True, times)
        if number or not at:
            for digit in range(10):
                longer = number * 10 + digit
                if any(start <= high and end >= low for start, end in _longer(longer, high)):
                    found[_ZERO + digit] = State(part, at + 1, longer, False, times)
        return found


def _longer(number: int, high: int) -> Iterator[tuple[int, int]]:
    """Yield ranges in tenths of the times up to `high` whose integer part begins with the digits of `number`."""
    count = 1
    while number * TENTHS <= high:
        yield number * TENTHS, (number + count) * TENTHS - 1
        if not number:
            return
        number, count = number * 10, count * 10
