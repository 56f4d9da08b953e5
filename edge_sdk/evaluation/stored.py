"""Scores on disk, so that a scorer never scores the same clip twice.

One JSON line per sample is written as soon as it is known. A stopped evaluation can therefore resume, and tables and
comparisons of scorers can be made without the models. A line is valid only for the exact bytes that were scored and for
the scorer's identity; other lines are kept but ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.scorer import ClipScores, Guess
from edge_sdk.files import sha256_of
from edge_sdk.types import Value


class StoredGuess(Value, frozen=True, kw_only=True):
    """A stored `Guess`; `interval_s` is the interval of its start."""

    start_s: float
    interval_s: tuple[float, float] | None
    end_s: float | None


class StoredLine(Value, frozen=True, kw_only=True):
    """The `ClipScores` that `scorer` gave one sample, which is identified by its folder, name and hash."""

    scorer: str
    sample: str
    sha256: str
    times_s: tuple[float, ...]
    crash: tuple[float, ...]
    score: float
    guesses: tuple[StoredGuess, ...]
    alarms_s: tuple[float, ...] | None


class StoredScorer:
    """Returns scores from the file `store` if it holds them, and calls `ask` for others.

    Only the first `GUESSES` guesses are stored: that is enough, because only guesses in a splice's shadow are skipped.
    """

    GUESSES = 64

    def __init__(self, name: str, store: Path, ask: Callable[[Path], ClipScores], *, identity: str) -> None:
        """Read `store`. `identity` must differ between scorers that may give different scores.

        Raises `ConfigError` for a file that does not hold scores.
        """
        self._name, self._store, self._ask, self._identity = name, store, ask, identity
        self._known = {(line.sample, line.sha256): line for line in _read(store) if line.scorer == identity}

    @property
    def name(self) -> str:
        """The name of its table row."""
        return self._name

    def __call__(self, path: Path) -> ClipScores:
        """Score the sample at `path`. Raises what `ask` raises."""
        sample = f"{path.parent.name}/{path.name}", sha256_of(path)
        if sample not in self._known:
            line = _line(self._identity, *sample, self._ask(path))
            self._store.parent.mkdir(parents=True, exist_ok=True)
            with self._store.open("ab") as file:
                file.write(msgspec.json.encode(line) + b"\n")
            self._known[sample] = line
        return _scores(self._known[sample])


def _read(store: Path) -> list[StoredLine]:
    """Read the complete lines of a store, and remove an incomplete last line that an interrupted write left."""
    if not store.is_file():
        return []
    whole, _, rest = store.read_bytes().rpartition(b"\n")
    if rest:
        store.write_bytes(whole + b"\n" if whole else b"")
    try:
        return [msgspec.json.decode(line, type=StoredLine) for line in whole.split(b"\n") if line]
    except msgspec.DecodeError as error:
        raise ConfigError(f"{store} does not hold scores ({error}); remove it, and run again") from error


def _line(scorer: str, sample: str, sha256: str, found: ClipScores) -> StoredLine:
    guesses = found.guesses[: StoredScorer.GUESSES]
    return StoredLine(
        scorer=scorer,
        sample=sample,
        sha256=sha256,
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
