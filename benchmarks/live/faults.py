"""Make the table of faults: what a source reports for each fault, how soon, and how soon its pictures are back.

    python -m edge_sdk.benchmarks.live.faults --out DIR

Each fault has its own server; several run side by side, because most of a fault's time is waiting. `told` counts from
the start of the fault, `back` from its end until a picture drawn after the end arrives.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge_sdk.benchmarks.live.results import Observer, Setting, write_result
from edge_sdk.benchmarks.live.server import RtspServer, Stream
from edge_sdk.benchmarks.live.watched import Watched, watch
from edge_sdk.capture import LiveSettings, SourceChange
from edge_sdk.console import run_script
from edge_sdk.errors import EdgeError
from edge_sdk.files import write_text
from edge_sdk.types import Value

STREAM = Stream(width=640, height=360, rate_hz=15.0, kbit_s=800)
LOCKED = msgspec.structs.replace(STREAM, user="viewer", password="right")  # noqa: S106 - of a server of this benchmark
FROZEN_S = 3.0  # the time-out of these sources; 10 s by default
START_S, BACK_S = 15.0, 60.0
SIDE_BY_SIDE = 4

Deed = Callable[[RtspServer], object]


class Case(NamedTuple):
    """A fault: `do` begins it and `undo` ends it after `hold_s`. Without `do` it is present when the source opens."""

    name: str
    hold_s: float
    do: Deed | None
    undo: Deed
    stream: Stream = STREAM
    user: str = ""
    password: str = ""


class FaultRow(Value, frozen=True, kw_only=True):
    """Result of a fault; `told_s` and `state` are null if nothing was reported, `back_s` if no picture came back."""

    fault: str
    hold_s: float
    told_s: float | None
    state: str | None
    reason: str
    back_s: float | None
    states: tuple[str, ...]


class FaultRun(Value, frozen=True, kw_only=True):
    """The results of all faults."""

    schema: int = 1
    name: str = "faults of a camera"
    rows: tuple[FaultRow, ...]
    setting: Setting


CASES = (
    Case("SIGSTOP for 90 s", 90.0, RtspServer.stop, RtspServer.go_on),
    Case("SIGSTOP for 20 s", 20.0, RtspServer.stop, RtspServer.go_on),
    Case("SIGSTOP for 5 s", 5.0, RtspServer.stop, RtspServer.go_on),
    Case("killed, started again", 5.0, RtspServer.kill, RtspServer.restart),
    Case("wrong password", 3.0, None, lambda s: s.tell("password viewer wrong"), LOCKED, "viewer", "wrong"),
    Case("no password", 3.0, None, lambda s: s.restart(STREAM), LOCKED),
    Case("VP8", 3.0, None, lambda s: s.restart(STREAM), msgspec.structs.replace(STREAM, codec="vp8")),
    Case("every unit is garbage", 5.0, lambda s: s.tell("corrupt 0.5"), lambda s: s.tell("corrupt 0")),
    Case("2 % of bytes are wrong", 5.0, lambda s: s.tell("corrupt 0.02"), lambda s: s.tell("corrupt 0")),
    Case("another resolution", 0.0, lambda s: s.tell("resize 384 216"), lambda _: None),
    Case("pictures stop, the session goes on", 5.0, lambda s: s.tell("mute"), lambda s: s.tell("unmute")),
    Case("pictures freeze, the stream goes on", 12.0, lambda s: s.tell("freeze"), lambda s: s.tell("thaw")),
    Case("sender reports stop", 10.0, lambda s: s.tell("rtcp off"), lambda _: None),
)


def run_case(case: Case) -> FaultRow:
    """Cause the fault and measure. Raises `SourceError` where the source is not live before the fault."""
    with ExitStack() as opened:
        server = opened.enter_context(RtspServer(case.stream))
        begin_s = time.monotonic()
        uri = server.uri_as(case.user, case.password)
        source = opened.enter_context(watch(uri, LiveSettings(frozen_timeout_s=FROZEN_S)))
        if case.do is not None:
            source.wait_live(START_S)
            source.changes.clear()
            begin_s = time.monotonic()
            case.do(server)
        source.wait(case.hold_s - (time.monotonic() - begin_s))
        case.undo(server)
        back_s = _back_s(source)
        told = told_of(source.changes)
        return FaultRow(
            fault=case.name,
            hold_s=case.hold_s,
            told_s=told.at_s - begin_s if told is not None else None,
            state=told.state if told is not None else None,
            reason=told.reason if told is not None else "",
            back_s=back_s,
            states=tuple(source.states),
        )


def told_of(changes: Sequence[SourceChange]) -> SourceChange | None:
    """The change that reports the fault: the first one with a reason."""
    return next((change for change in changes if change.reason), None)


def _back_s(source: Watched) -> float | None:
    try:
        return source.wait_live(BACK_S)
    except EdgeError:
        return None


def table(rows: Sequence[FaultRow]) -> str:
    """The rows as Markdown."""
    lines = ["| fault | state | told after s | what it says | back after s |", "|---|---|--:|---|--:|"]
    for row in rows:
        told, back = ("" if value is None else f"{value:.2f}" for value in (row.told_s, row.back_s))
        lines.append(f"| {row.fault} | {row.state or 'live'} | {told} | {row.reason} | {back or 'never'} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code, 1 where a source did not come back."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("out/live"))
    chosen = parser.parse_args(arguments)
    observer = Observer()
    try:
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            rows = tuple(pool.map(run_case, CASES))
    except EdgeError as error:
        print(f"faults: {error}", file=sys.stderr)
        return error.exit_code
    run = FaultRun(rows=rows, setting=observer.setting(STREAM, None, None))
    write_result(run, chosen.out / "faults.json")
    write_text(chosen.out / "faults.md", table(rows) + "\n")
    print(table(rows))
    return 0 if all(row.back_s is not None for row in rows) else 1


if __name__ == "__main__":
    run_script(main)
