"""Measure from outside how old a frame is when its scores are ready: the camera writes the time into its pixels.

    python -m edge_sdk.benchmarks.live.ages --seconds 80 [--spin 1] [--questions 16] --out DIR

Server and unit run on one machine and share its monotonic clock, so the age needs no synchronised clocks. The age
includes everything: drawing, encoding, network, decoding, waiting for the next round, scaling, the student. `--spin`
makes Python threads of the same process burn CPU meanwhile, as an application around the SDK might. `--questions N`
makes the bundle's video LLM answer without a pause about clips of N frames; the unit keeps frames for it as for events.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import edge_sdk
from edge_sdk.benchmarks.live import stamp
from edge_sdk.benchmarks.live.plots import draw_ages
from edge_sdk.benchmarks.live.questions import Questioned, asking
from edge_sdk.benchmarks.live.results import Ages, Observer, Setting, ages_of, cpu_s, write_result
from edge_sdk.benchmarks.live.server import RtspServer, Stream
from edge_sdk.bundle import open_bundle
from edge_sdk.console import run_script
from edge_sdk.errors import ConfigError, EdgeError
from edge_sdk.explaining import ReasonerSettings
from edge_sdk.types import Value
from edge_sdk.unit import Step, Unit

WARM_UP_S = 5.0
# Not 30: camera and rounds would keep their initial phase, so that one lucky or unlucky wait would last a whole run.
RATE_HZ = 29.97
TARGET_P95_MS = {0: 100.0, 1: 200.0}  # by spinning threads
QUESTIONS_P95_MS = 150.0


class AgeRun(Value, frozen=True, kw_only=True):
    """One run. `age` is by the camera's stamps, `own` the SDK's own ages of the same frames (since their arrival).

    `repeated` rounds had no new frame; `unreadable` frames showed no stamp; `missed_rounds` were skipped. `reasoner` is
    the work of the reasoner that ran meanwhile.
    """

    schema: int = 1
    name: str = "frame age, camera's stamp to scores"
    rate_hz: float
    seconds: float
    spinning_threads: int
    age: Ages
    own: Ages
    student_p50_ms: float | None
    repeated: int
    unreadable: int
    missed_rounds: int
    target_p95_ms: float | None
    reasoner: Questioned | None = None
    setting: Setting


class Tally:
    """Accumulate the steps of a unit whose frames carry stamps."""

    def __init__(self, aspect: float) -> None:
        self.ages_ms: list[float] = []
        self.own_ms: list[float] = []
        self.student_ms: list[float] = []
        self.repeated = self.unreadable = 0
        self._aspect = aspect

    def add(self, step: Step, now_ns: int) -> None:
        """Add a step whose scores were ready at `now_ns` of `time.monotonic_ns()`."""
        if step.age_ms is None:
            self.repeated += 1
            return
        ticks = stamp.read(step.frame.pixels, self._aspect)
        if ticks is None:
            self.unreadable += 1
            return
        self.ages_ms.append(stamp.age_ms(ticks, now_ns))
        self.own_ms.append(step.age_ms)
        self.student_ms.append(step.student_ms)


@contextmanager
def spinning(threads: int) -> Iterator[None]:
    """Keep `threads` Python threads of this process computing while the context is open."""
    stop = threading.Event()

    def spin() -> None:
        number = 0
        while not stop.is_set():
            for _ in range(1000):
                number = (number * 31 + 7) % 65537

    started = [threading.Thread(target=spin, daemon=True) for _ in range(threads)]
    for thread in started:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in started:
            thread.join()


def collect(
    unit: Unit,
    tallies: Sequence[Tally],
    observer: Observer,
    seconds: float,
    on_warm: Callable[[], object] = lambda: None,
) -> None:
    """Let `unit` run for `seconds` after its warm-up, with one tally per stream; `on_warm` is called after the warm-up.

    Raises `ConfigError` when no frame comes.
    """
    begin_s, warm = time.monotonic(), False
    timer = threading.Timer(WARM_UP_S + seconds, unit.stop)
    timer.start()
    try:
        for step in unit.steps():
            now_ns = time.monotonic_ns()
            if now_ns / 1e9 - begin_s > WARM_UP_S:
                if not warm:
                    on_warm()
                    warm = True
                tallies[step.stream].add(step, now_ns)
            observer.look()
    finally:
        timer.cancel()
    if not any(tally.ages_ms for tally in tallies):
        raise ConfigError(f"no frame with a stamp came within {seconds:g} s; is the server's stream one of ours?")


def run_ages(
    stream: Stream, seconds: float, spin: int, rate_hz: float | None, bundle: Path | None, questions: int = 0
) -> tuple[AgeRun, list[float]]:
    """Run the measurement; returns the run and every age in ms."""
    opened = open_bundle(bundle)
    tally, observer = Tally(stream.width / stream.height), Observer()
    reasoning = ReasonerSettings() if questions else None
    with (
        asking(opened, questions, reasoning) if questions else nullcontext() as busy,
        RtspServer(stream) as server,
        edge_sdk.open(server.uri, opened, rate_hz=rate_hz, reasoning=reasoning) as unit,
        spinning(spin),
    ):
        collect(unit, [tally], observer, seconds, busy.begin if busy else lambda: None)
        reasoner = busy.told() if busy else None
        server_cores = cpu_s(server.pid) / (WARM_UP_S + seconds)
        missed = unit.missed_rounds
    student = opened.manifest.student
    run = AgeRun(
        rate_hz=rate_hz or (student.rate_hz if student else 0.0),
        seconds=seconds,
        spinning_threads=spin,
        age=ages_of(tally.ages_ms),
        own=ages_of(tally.own_ms),
        student_p50_ms=ages_of(tally.student_ms).p50_ms,
        repeated=tally.repeated,
        unreadable=tally.unreadable,
        missed_rounds=missed,
        target_p95_ms=QUESTIONS_P95_MS if questions else TARGET_P95_MS.get(spin),
        reasoner=reasoner,
        setting=observer.setting(server.stream, opened.sha256, server_cores),
    )
    return run, tally.ages_ms


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code, 1 where the target is missed."""
    parser = argparse.ArgumentParser(prog="ages", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=80.0)
    parser.add_argument("--spin", type=int, default=0, help="Python threads that burn CPU in the same process")
    parser.add_argument("--rate", type=float, help="rounds a second; the student's rate by default")
    parser.add_argument("--codec", choices=("h264", "h265", "mjpeg"), default="h264")
    parser.add_argument(
        "--questions", type=int, default=0, metavar="FRAMES", help="frames of a clip that is asked about"
    )
    parser.add_argument("--bundle", type=Path, help="bundle folder; the demo bundle by default")
    parser.add_argument("--out", type=Path, default=Path("out/live"))
    chosen = parser.parse_args(arguments)
    stem = f"ages-{chosen.codec}" + (f"-spin{chosen.spin}" if chosen.spin else "")
    stem += "-questions" if chosen.questions else ""
    try:
        run, ages_ms = run_ages(
            Stream(codec=chosen.codec, rate_hz=RATE_HZ),
            chosen.seconds,
            chosen.spin,
            chosen.rate,
            chosen.bundle,
            chosen.questions,
        )
    except EdgeError as error:
        print(f"ages: {error}", file=sys.stderr)
        return error.exit_code
    write_result(run, chosen.out / f"{stem}.json")
    marks = {"p50": run.age.p50_ms, "p95": run.age.p95_ms, "p99": run.age.p99_ms, "target": run.target_p95_ms}
    known = {name: value for name, value in marks.items() if value is not None}
    draw_ages(describe(run).partition(": age")[0], ages_ms, known, chosen.out / f"{stem}.png")
    print(describe(run))
    p95_ms, target_ms = run.age.p95_ms, run.target_p95_ms
    return 0 if target_ms is None or (p95_ms is not None and p95_ms <= target_ms) else 1


def describe(run: AgeRun) -> str:
    """Describe the run in two lines, with a third for the work of a reasoner."""
    beside, asked = "", run.reasoner
    if asked is not None:
        beside = (
            f"\nreasoner: {asked.frames} frames and {asked.answers} answers on {asked.cores:.2f} cores, "
            f"niceness +{asked.priority}, {asked.threads} threads"
        )
    age, target = run.age, "" if run.target_p95_ms is None else f" (target p95 {run.target_p95_ms:g})"
    told = ", ".join(
        f"{name} {value:.1f}" if value is not None else f"{name} n/a"
        for name, value in (("p50", age.p50_ms), ("p95", age.p95_ms), ("p99", age.p99_ms), ("max", age.max_ms))
    )
    return (
        f"{run.setting.stream.codec} {run.setting.stream.width}x{run.setting.stream.height}, {run.rate_hz:g} rounds a "
        f"second, {run.spinning_threads} spinning: age ms {told}{target}; n = {age.count}, repeated {run.repeated}, "
        f"unreadable {run.unreadable}, missed rounds {run.missed_rounds}\n"
        f"validity: {'; '.join(run.setting.validity) or 'nothing to note'}{beside}"
    )


if __name__ == "__main__":
    run_script(main)
