"""Kill and restart a camera again and again: check that memory does not grow, and how soon sources are live again.

    python -m edge_sdk.benchmarks.live.reconnects --count 1000 --out DIR

Several sources watch one server, so each kill causes as many reconnects as there are sources. A source that fails soon
after a reconnect waits longer each time, so all sources get a pause regularly. The slope is fitted over the second half
of the run as the median of the slopes of all pairs, which is robust to single steps of the allocator. The measurement
includes GStreamer, the sources' threads and their rings, but not the student. Arenas of `malloc` are limited as in
`edge-sdk run`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from edge_sdk.benchmarks.live.plots import draw_memory
from edge_sdk.benchmarks.live.results import Observer, Setting, heap_kb, resident_kb, write_result
from edge_sdk.benchmarks.live.server import RtspServer, Stream
from edge_sdk.capture import CaptureSettings, LiveSettings, LiveSource, limit_arenas, open_live
from edge_sdk.console import run_script
from edge_sdk.errors import EdgeError, SourceError
from edge_sdk.types import Value

# Small pictures: leaks do not depend on their size, and the number of reconnects matters.
STREAM = Stream(width=320, height=192, rate_hz=15.0, kbit_s=300)
TARGET_KB = 1.0
RECONNECT_S = 20.0
# A source that was live for 10 s starts with short waits again; after two minutes without that its waits are long.
CYCLES_IN_A_ROW, REST_S = 20, 11.0
# Points to which the memory curve is thinned for the median of slopes, whose cost is quadratic in their number.
FIT_POINTS = 400


class ReconnectRun(Value, frozen=True, kw_only=True):
    """One run. `states` counts the changes into each state; `live_again` is the time from server start to all live.

    `slope_kb` is the growth of the resident set per reconnect (1 KB = 1,024 bytes) over the second half,
    `heap_slope_kb` the growth of memory allocated by `malloc`; `resident_kb` and `heap_kb` have one value per kill.
    """

    schema: int = 1
    name: str = "memory over reconnects"
    reconnects: int
    sources: int
    seconds: float
    resident_first_kb: float
    resident_last_kb: float
    slope_kb: float
    heap_slope_kb: float | None
    target_kb: float = TARGET_KB
    threads_first: int
    threads_last: int
    files_first: int
    files_last: int
    states: dict[str, int]
    reasons: dict[str, int]
    live_again_p50_s: float
    live_again_max_s: float
    resident_kb: tuple[float, ...]
    heap_kb: tuple[float, ...]
    setting: Setting


def slope_of(values: Sequence[float]) -> float:
    """Growth per step over the second half of `values`: the median of the slopes of all its pairs (Sen, 1968)."""
    half = np.asarray(values[len(values) // 2 :], np.float64)
    at = np.unique(np.linspace(0, half.size - 1, min(half.size, FIT_POINTS)).astype(int))
    first, second = np.triu_indices(at.size, 1)
    if first.size == 0:
        return 0.0
    return float(np.median((half[at[second]] - half[at[first]]) / (at[second] - at[first])))


def wait_for(sources: Sequence[LiveSource], *, live: bool) -> float:
    """Read frames until all sources are live, or none is; returns the seconds. Raises `SourceError` on time-out."""
    begin_s = time.monotonic()
    while any((source.state == "live") != live for source in sources):
        rest(sources, 0.02)
        if time.monotonic() - begin_s > RECONNECT_S:
            states = ", ".join(sorted({source.state for source in sources}))
            raise SourceError(
                f"after {RECONNECT_S:g} s the sources are {states}; expected {'' if live else 'not '}live"
            )
    return time.monotonic() - begin_s


def rest(sources: Sequence[LiveSource], seconds: float) -> None:
    """Only take frames, as a unit does, for some seconds."""
    until_s = time.monotonic() + seconds
    while True:
        for source in sources:
            source.latest()
        if time.monotonic() >= until_s:
            return
        time.sleep(0.02)


def held() -> tuple[int, int]:
    """Number of threads and of open files of this process."""
    return len(list(Path("/proc/self/task").iterdir())), len(list(Path("/proc/self/fd").iterdir()))


def run_reconnects(count: int, sources: int = 1) -> ReconnectRun:
    """Kill and restart the server until `sources` sources have made `count` reconnects in all.

    Raises `SourceError` when a source does not come back.
    """
    settings = CaptureSettings(width=320, height=192, policy="latest", live=LiveSettings(pre_roll_s=2.0))
    observer, notes, begin_s = Observer(), _Notes(), time.monotonic()
    with RtspServer(STREAM) as server, ExitStack() as opened:
        watched = [opened.enter_context(open_live(server.uri, settings)) for _ in range(sources)]
        wait_for(watched, live=True)
        first = held()
        for cycle in range(-(-count // sources)):
            if cycle % CYCLES_IN_A_ROW == CYCLES_IN_A_ROW - 1:
                rest(watched, REST_S)
            server.kill()
            wait_for(watched, live=False)
            server.restart()
            notes.take(watched, wait_for(watched, live=True))
            observer.look()
        last = held()
    return ReconnectRun(
        reconnects=len(notes.resident_kb) * sources,
        sources=sources,
        seconds=time.monotonic() - begin_s,
        resident_first_kb=notes.resident_kb[0],
        resident_last_kb=notes.resident_kb[-1],
        slope_kb=slope_of(notes.resident_kb) / sources,
        heap_slope_kb=slope_of(notes.heap_kb) / sources if notes.heap_kb else None,
        threads_first=first[0],
        threads_last=last[0],
        files_first=first[1],
        files_last=last[1],
        states=dict(notes.states),
        reasons=dict(notes.reasons.most_common(20)),
        live_again_p50_s=float(np.median(notes.waits_s)),
        live_again_max_s=max(notes.waits_s),
        resident_kb=tuple(notes.resident_kb),
        heap_kb=tuple(notes.heap_kb),
        setting=observer.setting(server.stream, None, None),
    )


class _Notes:
    """The measurements after each kill."""

    def __init__(self) -> None:
        self.resident_kb: list[float] = []
        self.heap_kb: list[float] = []
        self.waits_s: list[float] = []
        self.states = Counter[str]()
        self.reasons = Counter[str]()

    def take(self, sources: Sequence[LiveSource], wait_s: float) -> None:
        self.resident_kb.append(resident_kb())
        heap = heap_kb()
        self.heap_kb += [] if heap is None else [heap]
        self.waits_s.append(wait_s)
        for change in (change for source in sources for change in source.changes()):
            self.states[change.state] += 1
            self.reasons[change.reason] += bool(change.reason)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code, 1 where memory grows more than allowed."""
    parser = argparse.ArgumentParser(prog="reconnects", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--sources", type=int, default=4, help="sources that watch the server that is killed")
    parser.add_argument("--out", type=Path, default=Path("out/live"))
    chosen = parser.parse_args(arguments)
    limit_arenas()
    try:
        run = run_reconnects(max(1, chosen.count), max(1, chosen.sources))
    except EdgeError as error:
        print(f"reconnects: {error}", file=sys.stderr)
        return error.exit_code
    write_result(run, chosen.out / "reconnects.json")
    title = f"{run.reconnects} reconnects after SIGKILL of the server, RTSP H.264 over TCP"
    draw_memory(
        title,
        range(run.sources, run.reconnects + 1, run.sources),
        run.resident_kb,
        run.slope_kb,
        chosen.out / "reconnects.png",
    )
    print(
        f"{run.reconnects} times in {run.seconds:.0f} s: {run.resident_first_kb:.0f} to {run.resident_last_kb:.0f} "
        f"KB, slope {run.slope_kb:+.3f} KB each (target below {run.target_kb:g}), of the heap "
        f"{'n/a' if run.heap_slope_kb is None else f'{run.heap_slope_kb:+.3f}'}; live again after p50 "
        f"{run.live_again_p50_s:.2f} s, max {run.live_again_max_s:.2f} s; states {run.states}"
    )
    return 0 if run.slope_kb < run.target_kb else 1


if __name__ == "__main__":
    run_script(main)
