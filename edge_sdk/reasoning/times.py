"""How long the parts of an answer took, counting only the time in which this SDK was working."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from edge_sdk.types import Value


class ReasoningTimes(Value, frozen=True, kw_only=True):
    """Times of one clip in milliseconds.

    `vision_ms` is the time from pictures to the decoder's input rows, `prefill_ms` the time of clip and questions in
    the decoder, `decode_ms` that of the answers. `first_answer_ms`, `questions_ms` and `after_last_frame_ms` start when
    the last frame is handed over and include that frame: they end at the first answer, when all questions are in the
    decoder, and at the last answer. Time that the caller spends in between is left out.

    `steps` counts the decoder's calls for answers, `weight_reads` all of its calls. `rounds` is the number of groups in
    which the questions of the last `ask` were asked; more than one if the caches had no room for all together.
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
        """Forget the times called `names`, or all times if none are given."""
        for name in names or tuple(self._spent):
            self._spent.pop(name, None)

    @contextmanager
    def running(self, *names: str) -> Iterator[None]:
        """Add the duration of a block to each of `names`, even if it raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = (time.perf_counter() - start) * 1e3
            for name in names:
                self._spent[name] = self._spent.get(name, 0.0) + spent

    def ms(self, name: str) -> float:
        """Return the total time of `name`, in milliseconds."""
        return self._spent.get(name, 0.0)
