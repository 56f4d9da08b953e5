"""Scores on disk: a scorer that has answered once does not look at the clip again.

One JSON line a sample, written as soon as it is known, so that an evaluation that was stopped goes on, and tables can
be made again, and differences between scorers drawn, without the models.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.scorer import ClipScores, Guess
from edge_sdk.types import Value


class StoredGuess(Value, frozen=True, kw_only=True):
    """A `Guess`; `interval_s` is its start's."""

    start_s: float
    interval_s: tuple[float, float] | None
    end_s: float | None


class StoredLine(Value, frozen=True, kw_only=True):
    """The `ClipScores` of one sample, which is known by its folder and name."""

    sample: str
    times_s: tuple[float, ...]
    crash: tuple[float, ...]
    score: float
    guesses: tuple[StoredGuess, ...]
    alarms_s: tuple[float, ...] | None


class StoredScorer:
    """Answers from the file `store` what it holds, and asks `ask` for the rest.

    Guesses after the first `GUESSES` are dropped: only those on a splice are passed over.
    """

    GUESSES = 64

    def __init__(self, name: str, store: Path, ask: Callable[[Path], ClipScores]) -> None:
        """Raises `ConfigError` for a store that is not one."""
        self._name, self._store, self._ask = name, store, ask
        self._known = {line.sample: line for line in _read(store)}

    @property
    def name(self) -> str:
        """The row's name."""
        return self._name

    def __call__(self, path: Path) -> ClipScores:
        """Score the sample at `path`. Raises what `ask` raises."""
        sample = f"{path.parent.name}/{path.name}"
        if sample not in self._known:
            line = _line(sample, self._ask(path))
            self._store.parent.mkdir(parents=True, exist_ok=True)
            with self._store.open("ab") as file:
                file.write(msgspec.json.encode(line) + b"\n")
            self._known[sample] = line
        return _scores(self._known[sample])


def _read(store: Path) -> list[StoredLine]:
    """The whole lines of a store; an interrupted write leaves a part of one, which is cut off."""
    if not store.is_file():
        return []
    whole, _, rest = store.read_bytes().rpartition(b"\n")
    if rest:
        store.write_bytes(whole + b"\n" if whole else b"")
    try:
        return [msgspec.json.decode(line, type=StoredLine) for line in whole.split(b"\n") if line]
    except msgspec.DecodeError as error:
        raise ConfigError(f"{store} does not hold scores ({error}); remove it, and they are made again") from error


def _line(sample: str, found: ClipScores) -> StoredLine:
    guesses = found.guesses[: StoredScorer.GUESSES]
    return StoredLine(
        sample=sample,
        times_s=tuple(found.frame_times_s.tolist()),
        crash=tuple(found.crash.tolist()),
        score=found.score,
        guesses=tuple(StoredGuess(start_s=g.start_s, interval_s=g.start_interval_s, end_s=g.end_s) for g in guesses),
        alarms_s=found.alarms_s,
    )


def _scores(line: StoredLine) -> ClipScores:
    return ClipScores(
        frame_times_s=np.array(line.times_s, np.float64),
        crash=np.array(line.crash, np.float64),
        score=line.score,
        guesses=tuple(Guess(start_s=g.start_s, start_interval_s=g.interval_s, end_s=g.end_s) for g in line.guesses),
        alarms_s=line.alarms_s,
    )
