"""Rows of a campaign (a measurement, or why there is none), and how a process passes them to the campaign.

What a process measures may kill it: a compiler may crash, memory may run out. So each row is written to a file
immediately, and the file holds all results up to a crash.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import msgspec
import numpy as np

from edge_sdk.benchmarks.measure import percentiles
from edge_sdk.errors import EdgeError
from edge_sdk.types import Value

# Targets for a decoder: the share of the limit to aim at, and the lowest acceptable share.
GOALS: dict[str, tuple[float, float]] = {"decode": (0.7, 0.5), "prefill": (0.5, 0.3)}
# Prefix of the log line that tells why a process ended; libraries may print more after it.
REFUSED = "campaign refused: "
_MS_PER_S = 1e3


class Row(Value, frozen=True, kw_only=True):
    """One figure of one runtime on one subject, which is a bundle or a checkpoint.

    `value` is in `unit`; `found` states in words a result that has no number. `raw_ms` are the measured times in the
    order in which they were taken, `percentiles_ms` their percentiles by the rule of `benchmarks/measure.py`. `share`
    is the reached share of `limit`; `goal` and `floor` apply to it. `ok` is the verdict of a check. `reason` tells why
    there is neither value nor finding; `method` tells how it was measured.
    """

    runtime: str
    subject: str
    what: str
    value: float | None = None
    unit: str = ""
    found: str = ""
    raw_ms: tuple[float, ...] = ()
    percentiles_ms: dict[str, float | None] = msgspec.field(default_factory=dict)
    share: float | None = None
    limit: str = ""
    goal: float | None = None
    floor: float | None = None
    ok: bool | None = None
    reason: str | None = None
    method: str = ""


class Group(NamedTuple):
    """Rows that are made together: their names, the least seconds needed to begin, and the function that makes them."""

    names: tuple[str, ...]
    least_s: float
    work: Callable[[], Iterator[Row]]


class Lines:
    """Writer of one process's rows."""

    def __init__(self, path: Path, runtime: str, subject: str, seconds: float) -> None:
        """Create the file `path` if needed; the time is up after `seconds`."""
        self._path, self._runtime, self._subject = path, runtime, subject
        self._until_s = time.monotonic() + seconds
        path.touch()

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self._until_s - time.monotonic()

    def row(self, what: str) -> Row:
        """A row of this process without results."""
        return Row(runtime=self._runtime, subject=self._subject, what=what)

    def timed(self, what: str, seconds: Sequence[float], *, value: float | None, unit: str, method: str) -> Row:
        """A row with its measured times."""
        raw_ms = tuple(each * _MS_PER_S for each in seconds)
        return msgspec.structs.replace(
            self.row(what),
            value=value,
            unit=unit,
            raw_ms=raw_ms,
            percentiles_ms=percentiles(np.array(raw_ms)),
            method=method,
        )

    def run(self, groups: Sequence[Group]) -> None:
        """Make the rows of every group; rows that cannot be made get the reason."""
        for names, least_s, work in groups:
            missing = list(names)
            reason = f"it ended without a result for {', '.join(missing)}"
            if self.left_s < least_s:
                reason = f"not begun: it takes at least {least_s:.0f} s, and {max(0.0, self.left_s):.0f} s were left"
            else:
                try:
                    for row in work():
                        self._put(row)
                        missing.remove(row.what)
                except EdgeError as error:
                    reason = str(error)
                except Exception as error:  # whatever a runtime or another package raises belongs in the table
                    reason = f"{type(error).__name__}: {_one_line(str(error))}"
            for name in missing:
                self._put(msgspec.structs.replace(self.row(name), reason=reason))

    def _put(self, row: Row) -> None:
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(row) + b"\n")


def refuse(error: EdgeError) -> NoReturn:
    """End the process because of `error`, which the campaign then states as the reason for every missing row."""
    print(f"{REFUSED}{error}", file=sys.stderr, flush=True)
    sys.exit(error.exit_code)


def read_rows(path: Path, start: int) -> tuple[list[Row], int]:
    """The rows in the complete lines of `path` after byte `start`, and the byte where the next line begins."""
    if not path.is_file():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        whole, newline, _ = file.read().rpartition(b"\n")
    rows = [msgspec.json.decode(line, type=Row) for line in whole.splitlines()]
    return rows, start + len(whole) + len(newline)


def with_share(row: Row, share: float | None, limit: str) -> Row:
    """`row` with the share of its limit that it reached, and with its goal and floor."""
    goal, floor = GOALS.get(row.what, (None, None))
    return msgspec.structs.replace(row, share=share, limit=limit, goal=goal, floor=floor)


def _one_line(text: str, most: int = 400) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= most else f"{joined[:most]}…"
