"""How a run of tokens is split into calls of the decoder.

An engine with captured graphs needs the same few shapes in every call. A runtime that takes any shape should get no
padding, because there a padded row costs as much as a real one.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.call_sizes import DECODE_ROWS, PREFILL_TOKENS
from edge_sdk.errors import ConfigError
from edge_sdk.types import Value


class CallShape(Value, frozen=True, kw_only=True):
    """The sizes of a decoder's calls.

    A call takes at most `prefill` tokens, and at most `rows` of them get logits. With `fixed`, every call has exactly
    `prefill` tokens, or `step` tokens if these are enough, and `rows` logits. Otherwise a call is as long as its input.

    A call computes over every slot it is given. Where the runtime allows it, calls are limited to the slots in use,
    rounded up to a multiple of `slot_step`: small enough to waste little, large enough to move the cache seldom.
    """

    prefill: int = PREFILL_TOKENS
    step: int = DECODE_ROWS
    rows: int = DECODE_ROWS
    fixed: bool = False
    slot_step: int = 1024

    def __post_init__(self) -> None:
        if not 1 <= self.step <= self.prefill or min(self.rows, self.slot_step) < 1:
            raise ConfigError(
                "expected calls of 1 token at least, a step no longer than a prefill, 1 row, and slots in steps of 1; "
                f"found {self.step}, {self.prefill}, {self.rows} and {self.slot_step}"
            )

    @property
    def slack(self) -> int:
        """Slots kept free at the end so that the last call can be padded."""
        return self.step - 1 if self.fixed else 0

    def slots_for(self, used: int) -> int:
        """Return how many slots to request when the first `used` are in use or about to be."""
        return -(-used // self.slot_step) * self.slot_step


class Call(Value, frozen=True, kw_only=True):
    """One call: the tokens `begin .. begin + count` of the run, their padded width, and the ends among them.

    `ends` is the range of their indices in the list of ends, `first .. last + 1`.
    """

    begin: int
    count: int
    width: int
    ends: tuple[int, int]


def cut(count: int, ends: Sequence[int], room: int, shape: CallShape) -> list[Call]:
    """Return the calls for `count` tokens, in order, with `room` free slots.

    `ends` are the indices of the tokens after which logits are wanted, ascending. Raises `ConfigError` unless the calls
    fit, padding included.
    """
    if count + shape.slack > room:
        raise ConfigError(f"expected room for {count} tokens and {shape.slack} of padding, found {room} slots")
    calls: list[Call] = []
    begin = done = 0
    while begin < count:
        width, taken = _next(count - begin, room - begin, shape)
        wanted = [end for end in ends[done:] if end < begin + taken][: shape.rows]
        crowded = len(wanted) == shape.rows and ends[done + shape.rows :] and ends[done + shape.rows] < begin + taken
        if crowded:
            taken = wanted[-1] + 1 - begin
            width = _width(taken, room - begin, shape)
        calls.append(Call(begin=begin, count=taken, width=width, ends=(done, done + len(wanted))))
        begin, done = begin + taken, done + len(wanted)
    return calls


def _next(left: int, room: int, shape: CallShape) -> tuple[int, int]:
    """Return the width of the next call, and how many of the `left` tokens it takes."""
    width = _width(left, room, shape)
    return width, min(left, width)


def _width(count: int, room: int, shape: CallShape) -> int:
    if not shape.fixed:
        return min(count, shape.prefill)
    return shape.prefill if shape.step < count and shape.prefill <= room else shape.step
