"""Run measuring processes one after the other within a time budget; rows that they do not report get a reason."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from edge_sdk.benchmarks.campaign.order import Order
from edge_sdk.benchmarks.campaign.rows import REFUSED, Row, read_rows
from edge_sdk.types import Value

# With less time left a process is not started: Python, the runtime and the bundle have to be opened first.
LEAST_S = 5.0
# Time that a process gets to stop by itself before it is killed.
_GRACE_S = 5.0
_POLL_S = 0.1
# No process may use more than this many equal shares of the time left, so that the first do not starve the last.
_PARTS = 2.0
_LAST_WORDS = 400


class Job(Value, frozen=True, kw_only=True):
    """A process: the module that it runs, its order, and the rows expected from it.

    `absent` tells why it is not started: what it would run is not installed.
    """

    module: str
    order: Order
    names: tuple[str, ...]
    absent: str | None = None


class Budget:
    """The time budget, which starts when this object is made."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began_s = time.monotonic()

    @property
    def spent_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began_s

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self.seconds - self.spent_s


def run_jobs(jobs: Sequence[Job], budget: Budget, put: Callable[[Row], None]) -> None:
    """Run every job; `put` gets each row as soon as it exists, and a row with a reason for each missing one."""
    for number, job in enumerate(jobs):
        allowed_s = min(budget.left_s, _PARTS * budget.left_s / (len(jobs) - number))
        if job.absent is not None:
            _excuse(job, set(job.names), job.absent, put)
            continue
        if allowed_s < LEAST_S:
            _excuse(job, set(job.names), f"not begun: {max(0.0, budget.left_s):.0f} s of the budget were left", put)
            continue
        _run(job, allowed_s, put)


def _run(job: Job, allowed_s: float, put: Callable[[Row], None]) -> None:
    missing = set(job.names)
    with TemporaryDirectory(prefix="campaign-") as folder:
        path, log = Path(folder) / "rows", Path(folder) / "log"
        ordered = msgspec.structs.replace(job.order, seconds=max(1.0, allowed_s - _GRACE_S))
        command = [sys.executable, "-m", job.module, msgspec.json.encode(ordered).decode(), str(path)]
        with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
            try:
                stopped = _follow(process, path, time.monotonic() + allowed_s, missing, put)
            except BaseException:
                process.kill()
                raise
        words = log.read_text(encoding="utf-8", errors="replace")
    _excuse(job, missing, _why(stopped, allowed_s, process.returncode, words), put)


def _follow(
    process: subprocess.Popen[bytes],
    path: Path,
    until_s: float,
    missing: set[str],
    put: Callable[[Row], None],
) -> bool:
    """Pass rows on until the process ends; returns True where it had to be stopped."""
    start, stopped = 0, False
    while True:
        ended = process.poll() is not None
        found, start = read_rows(path, start)
        for row in found:
            missing.discard(row.what)
            put(row)
        if ended:
            return stopped
        if time.monotonic() > until_s:
            stopped = True
            process.kill()
        time.sleep(_POLL_S)


def _why(stopped: bool, allowed_s: float, code: int, words: str) -> str:
    if stopped:
        return f"stopped: not done after the {allowed_s:.0f} s that it was given"
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    refused = [line.removeprefix(REFUSED) for line in lines if line.startswith(REFUSED)]
    if refused:
        return refused[-1]
    last = lines[-1] if lines else "it said nothing"
    if code < 0:
        return f"the process died of {signal.Signals(-code).name}: {last[:_LAST_WORDS]}"
    return last[:_LAST_WORDS]


def _excuse(job: Job, missing: set[str], reason: str, put: Callable[[Row], None]) -> None:
    for name in job.names:
        if name in missing:
            put(Row(runtime=job.order.runtime, subject=job.order.subject, what=name, reason=reason))
