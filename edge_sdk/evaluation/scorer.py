"""The interface of scorers: a path goes in, scores and times come out.

A student, a language model and a trivial baseline all answer in the same form, so one table can compare them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A localised crash: its start, the central 80 % interval of the start, and its end; None if not answered."""

    start_s: float
    start_interval_s: tuple[float, float] | None = None
    end_s: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipScores:
    """One scorer's answer for one clip; times in seconds since the clip's first decoded frame.

    `frame_times_s` and `crash` are float64 `[frames]`. `crash` is higher if a crash is more likely at that time; it
    must not depend on later frames. `score` is that of the whole clip. `guesses` say where a crash would be, best
    first, even if no alarm was raised; the first one outside the shadow of a splice counts. `alarms_s` are the times at
    which an event was confirmed, None for a scorer that raises no alarms.
    """

    frame_times_s: NDArray[np.float64]
    crash: NDArray[np.float64]
    score: float
    guesses: tuple[Guess, ...] = ()
    alarms_s: tuple[float, ...] | None = None


class Scorer(Protocol):
    """A scorer, which `evaluate` calls once per clip. Raises `SourceError` for a clip that it cannot read."""

    @property
    def name(self) -> str:
        """The name of its table row."""

    def __call__(self, path: Path) -> ClipScores:
        """Score the clip at `path`."""
