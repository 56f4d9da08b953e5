"""The contract of whatever is evaluated: a path goes in, scores and times come out.

A student, a language model and a trivial baseline all answer in the same form, so that they stand in one table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A crash as localised: its start, the central 80 % interval of the start, its end; None where not answered."""

    start_s: float
    start_interval_s: tuple[float, float] | None = None
    end_s: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipScores:
    """One scorer's answer for one clip; times in seconds since the clip's first decoded frame.

    `frame_times_s` and `crash` are float64 `[frames]`, the latter higher where a crash is more likely now, from no
    later frame. `score` speaks for the whole clip. `guesses` say where a crash would be, best first, even where no
    alarm was raised; the first that does not lie on a splice is taken. `alarms_s` are the times at which an event was
    confirmed, None for a scorer that raises no alarms.
    """

    frame_times_s: NDArray[np.float64]
    crash: NDArray[np.float64]
    score: float
    guesses: tuple[Guess, ...] = ()
    alarms_s: tuple[float, ...] | None = None


class Scorer(Protocol):
    """Called once per clip by `evaluate`; `name` heads its row. Raises `SourceError` for a clip it cannot read."""

    @property
    def name(self) -> str:
        """The row's name."""

    def __call__(self, path: Path) -> ClipScores:
        """Score the clip at `path`."""
