"""How long the parts of an answer took, counting only the time in which this SDK was at work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from edge_sdk.types import Value


class ReasoningTimes(Value, frozen=True, kw_only=True):
    """Times of one clip in milliseconds.

    `vision_ms` is from pictures to the decoder's rows, `prefill_ms` the clip and the questions in the decoder,
    `decode_ms` the answers. The others begin when the last frame was handed over, and count that frame: up to the first
    answer, until all questions are in the decoder, and to the last answer. What the caller did in between is left out.
    `steps` are calls of the decoder for answers, `weight_reads` all of its calls. In `rounds` the questions of the
    last ask were put to it; more than one where its caches had no room for all answers together.
    """

    vision_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    first_answer_ms: float = 0.0
    questions_ms: float = 0.0
    after_last_frame_ms: float = 0.0
    steps: int = 0
    weight_reads: int = 0
    rounds: int = 0


class Stopwatch:
    """Adds up named times in milliseconds."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}

    def reset(self, *names: str) -> None:
        """Forget the times called `names`, or all."""
        for name in names or tuple(self._spent):
            self._spent.pop(name, None)

    @contextmanager
    def running(self, *names: str) -> Iterator[None]:
        """Add the time of a block to each of `names`, also when it raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = (time.perf_counter() - start) * 1e3
            for name in names:
                self._spent[name] = self._spent.get(name, 0.0) + spent

    def ms(self, name: str) -> float:
        """What was added to `name`."""
        return self._spent.get(name, 0.0)
