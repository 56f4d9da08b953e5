"""The always-on student: luma pictures in, per-frame scores out, several streams in one run.

The runtime keeps the state, so a frame costs one plane pass and one run. A stream that restarts is reset alone, without
effect on the others. A run includes all streams, even those without a new picture; the change to their state is undone
when they continue, so each stream is scored as if it were alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest import Student
from edge_sdk.errors import BundleError, ConfigError, RuntimeFailure
from edge_sdk.forks import hold_in_forks, only_here
from edge_sdk.perception.operating import at_point
from edge_sdk.perception.planes import PlaneStack
from edge_sdk.registry import DEFAULT_RUNTIME, open_runtime
from edge_sdk.runtime import Array, SessionOptions

FRAMES_INPUT = "frames"
SCORES_OUTPUT = "scores"


class Recogniser:
    """The student of `bundle`, opened by `runtime` for `streams` pictures at a time.

    `runtime_version` is `Runtime.version`, `engine_sha256` is `Session.engine_sha256`.
    """

    def __init__(
        self,
        bundle: Bundle,
        runtime: str = DEFAULT_RUNTIME,
        streams: int = 1,
        options: SessionOptions | None = None,
    ) -> None:
        self.student = student_of(bundle)
        if streams < 1:
            raise ConfigError(f"streams must be at least 1, found {streams}")
        settled = options or SessionOptions()
        graph, path = bundle.graph(self.student.graph_on(runtime, settled.device))
        opened, self._runtime = open_runtime(runtime), runtime
        self._session = opened.open(path, graph, settled)
        self.runtime_version, self.engine_sha256 = opened.version, self._session.engine_sha256
        self._state = self._session.bind_state(graph.state, {"streams": streams})
        self._close = only_here(self._session.close)
        hold_in_forks(self)
        self._state_names = tuple(spec.input for spec in graph.state)
        self._planes = PlaneStack(streams, self.student.height, self.student.width, self.student.lags)
        self._pushed = [False] * streams
        # For each paused stream: its rows of every state tensor, by name, as its last picture left them.
        self._paused: dict[int, dict[str, Array]] = {}

    def push(self, stream: int, luma: NDArray[np.uint8]) -> None:
        """Give stream number `stream` its next picture, uint8 `[height, width]`; `step` then scores all streams."""
        self._planes.push(stream, luma)
        self._pushed[stream] = True
        rows = self._paused.pop(stream, None)
        if rows is not None:
            self._put(stream, rows)

    def step(self) -> NDArray[np.float32]:
        """Score the pushed pictures: float32 `[streams, len(student.scores)]`, probabilities in 0..1.

        Rows of streams without a new picture since the last call are meaningless. Raises `RuntimeFailure` if another
        row is not finite.
        """
        pushed = self._pushed
        if not all(pushed):
            self._pause([stream for stream, here in enumerate(pushed) if not here])
        self._pushed = [False] * len(pushed)
        scores: NDArray[np.float32] = self._state.run({FRAMES_INPUT: self._planes.batch})[SCORES_OUTPUT]
        self._check(scores, pushed)
        return scores

    def score(self, luma: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Push one picture to the only stream and score it: float32 `[len(student.scores)]`."""
        self.push(0, luma)
        row: NDArray[np.float32] = self.step()[0]
        return row

    def reset(self, stream: int) -> None:
        """Forget the past of one stream, as if its next picture were its first."""
        self._planes.reset(stream)
        self._paused.pop(stream, None)
        self._put(stream, dict.fromkeys(self._state_names, 0))

    def close(self) -> None:
        """Release the session; does nothing in a process that was forked from this one."""
        self._close()

    def _check(self, scores: NDArray[np.float32], pushed: list[bool]) -> None:
        """Raise `RuntimeFailure` for scores that are not finite: the state would stay bad, and confirm no crash."""
        for stream, row in enumerate(scores):
            if pushed[stream] and not np.isfinite(row).all():
                raise RuntimeFailure(
                    f"expected finite scores of the student in runtime {self._runtime!r}, found {row.tolist()} for "
                    f"stream {stream}: its numbers overflowed, and its state is lost; start again, and if it "
                    "happens again use another runtime, device or engine"
                )

    def _pause(self, streams: list[int]) -> None:
        """Keep the state of those of `streams` that were not paused before; it is read only if there are any."""
        begun = [stream for stream in streams if stream not in self._paused]
        state = {name: self._state.read(name) for name in self._state_names} if begun else {}
        for stream in begun:
            self._paused[stream] = {name: value[stream].copy() for name, value in state.items()}

    def _put(self, stream: int, rows: Mapping[str, Array | int]) -> None:
        for name, row in rows.items():
            value = self._state.read(name)
            value[stream] = row
            self._state.write(name, value)


def student_of(bundle: Bundle, operating_point: str | None = None) -> Student:
    """The bundle's student at the named operating point, or at its default point for None.

    Raises `BundleError` if there is no student, and `UnknownNameError` for a point that was not fitted.
    """
    student = bundle.manifest.student
    if student is None:
        raise BundleError(
            f"bundle {bundle.manifest.name!r} has no student; use a bundle made by `edge-sdk distil student`"
        )
    return student if operating_point is None else at_point(student, operating_point)
