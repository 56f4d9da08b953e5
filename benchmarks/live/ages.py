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
from edge_sdk.benchmarks.live.results import (
    LEAST_FRESH,
    Ages,
    Observer,
    Setting,
    ages_of,
    check_length,
    cpu_s,
    write_result,
)
from edge_sdk.benchmarks.live.server import RtspServer, Stream
from edge_sdk.bundle import open_bundle
from edge_sdk.console import run_script
from edge_sdk.errors import ConfigError, EdgeError
from edge_sdk.explaining import ReasonerSettings
from edge_sdk.perception.recogniser import student_of
from edge_sdk.types import Value
from edge_sdk.unit import Step, Unit

WARM_UP_S = 5.0
# Not 30: camera and rounds would keep their initial phase, so that one lucky or unlucky wait would last a whole run.
RATE_HZ = 29.97
TARGET_P95_MS = {0: 100.0, 1: 200.0}  # by spinning threads
QUESTIONS_P95_MS = 150.0


class AgeRun(Value, frozen=True, kw_only=True):
    """One run. `age` is by the camera's stamps, `own` the SDK's own ages of the same frames (since their arrival).

    `shown` has an age for every round that was due, also where no new frame was scored: a repeated frame counts with
    its own, greater age, and a missed round with that of the round before and one period more. `fresh` is the share of
    due rounds with a new frame. `repeated` rounds had no new frame; `unreadable` frames showed no stamp;
    `missed_rounds` were skipped, after the warm-up. `reasoner` is the work of the reasoner that ran meanwhile.
    """

    schema: int = 2
    name: str = "frame age, camera's stamp to scores"
    rate_hz: float
    seconds: float
    spinning_threads: int
    age: Ages
    shown: Ages
    own: Ages
    fresh: float
    student_p50_ms: float | None
    repeated: int
    unreadable: int
    missed_rounds: int
    target_p95_ms: float | None
    reasoner: Questioned | None = None
    setting: Setting


class Tally:
    """Accumulate the steps of one stream of a unit whose frames carry stamps, with rounds `period_ms` apart."""

    def __init__(self, aspect: float, period_ms: float) -> None:
        self.ages_ms: list[float] = []
        self.shown_ms: list[float] = []
        self.own_ms: list[float] = []
        self.student_ms: list[float] = []
        self.repeated = self.unreadable = self.missed = 0
        self._aspect, self._period_ms = aspect, period_ms

    def add(self, step: Step, now_ns: int) -> None:
        """Add a step whose scores were ready at `now_ns` of `time.monotonic_ns()`."""
        ticks = stamp.read(step.frame.pixels, self._aspect)
        age_ms = None if ticks is None else stamp.age_ms(ticks, now_ns)
        if age_ms is not None:
            self.shown_ms.append(age_ms)
        if step.age_ms is None:
            self.repeated += 1
        elif age_ms is None:
            self.unreadable += 1
        else:
            self.ages_ms.append(age_ms)
            self.own_ms.append(step.age_ms)
            self.student_ms.append(step.student_ms)

    def miss(self, rounds: int) -> None:
        """Count rounds that were skipped since the last step: whoever reads the scores then still has the old ones."""
        self.missed += rounds
        if self.shown_ms:
            last_ms = self.shown_ms[-1]
            self.shown_ms += [last_ms + number * self._period_ms for number in range(1, rounds + 1)]

    def fresh(self, due: float) -> float:
        """The share of the `due` rounds that had a new frame."""
        return min(1.0, (len(self.ages_ms) + self.unreadable) / due)


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
    begin_s, warm, missed = time.monotonic(), False, 0
    timer = threading.Timer(WARM_UP_S + seconds, unit.stop)
    timer.start()
    try:
        for step in unit.steps():
            now_ns = time.monotonic_ns()
            if now_ns / 1e9 - begin_s > WARM_UP_S:
                if not warm:
                    on_warm()
                    warm, missed = True, unit.missed_rounds
                if unit.missed_rounds > missed:
                    for tally in tallies:
                        tally.miss(unit.missed_rounds - missed)
                    missed = unit.missed_rounds
                tallies[step.stream].add(step, now_ns)
            observer.look()
    finally:
        timer.cancel()
    if not any(tally.ages_ms for tally in tallies):
        raise ConfigError(
            f"no frame with a stamp came within {seconds:g} s; use the stream of this benchmark's own server"
        )


def run_ages(
    stream: Stream, seconds: float, spin: int, rate_hz: float | None, bundle: Path | None, questions: int = 0
) -> tuple[AgeRun, list[float]]:
    """Run the measurement; returns the run and every age in ms, those of `shown`.

    Raises `ConfigError` for a length, a rate or a count out of range.
    """
    if min(spin, questions) < 0:
        raise ConfigError(f"expected --spin and --questions of at least 0, found {spin} and {questions}")
    opened = open_bundle(bundle)
    round_hz = rate_hz if rate_hz is not None else student_of(opened).rate_hz
    check_length(seconds, round_hz)
    tally, observer = Tally(stream.width / stream.height, 1e3 / round_hz), Observer()
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
    run = AgeRun(
        rate_hz=round_hz,
        seconds=seconds,
        spinning_threads=spin,
        age=ages_of(tally.ages_ms),
        shown=ages_of(tally.shown_ms),
        fresh=tally.fresh(seconds * round_hz),
        own=ages_of(tally.own_ms),
        student_p50_ms=ages_of(tally.student_ms).p50_ms,
        repeated=tally.repeated,
        unreadable=tally.unreadable,
        missed_rounds=tally.missed,
        target_p95_ms=QUESTIONS_P95_MS if questions else TARGET_P95_MS.get(spin),
        reasoner=reasoner,
        setting=observer.setting(server.stream, opened.sha256, server_cores),
    )
    return run, tally.shown_ms


def met(run: AgeRun) -> bool:
    """Whether the run meets its target: frames are fresh, and with every due round counted, the p95 is low enough."""
    if run.target_p95_ms is None:
        return True
    p95_ms = run.shown.p95_ms
    return run.fresh >= LEAST_FRESH and p95_ms is not None and p95_ms <= run.target_p95_ms


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code, 1 where the target is missed: see `met`."""
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
        run, shown_ms = run_ages(
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
    marks = {"p50": run.shown.p50_ms, "p95": run.shown.p95_ms, "p99": run.shown.p99_ms, "target": run.target_p95_ms}
    known = {name: value for name, value in marks.items() if value is not None}
    draw_ages(describe(run).partition(": age")[0], shown_ms, known, chosen.out / f"{stem}.png")
    print(describe(run))
    return 0 if met(run) else 1


def describe(run: AgeRun) -> str:
    """Describe the run in two lines, with a third for the work of a reasoner."""
    beside, asked = "", run.reasoner
    if asked is not None:
        beside = (
            f"\nreasoner: {asked.frames} frames and {asked.answers} answers on {asked.cores:.2f} cores, "
            f"niceness +{asked.priority}, {asked.threads} threads"
        )
    target = "" if run.target_p95_ms is None else f" (target p95 {run.target_p95_ms:g}, {LEAST_FRESH:.0%} fresh)"
    return (
        f"{run.setting.stream.codec} {run.setting.stream.width}x{run.setting.stream.height}, {run.rate_hz:g} rounds a "
        f"second, {run.spinning_threads} spinning: age ms of every due round {_quantiles(run.shown)}{target}; of fresh "
        f"frames {_quantiles(run.age)}; {run.fresh:.1%} fresh, repeated {run.repeated}, unreadable {run.unreadable}, "
        f"missed rounds {run.missed_rounds}\n"
        f"validity: {'; '.join(run.setting.validity) or 'nothing to note'}{beside}"
    )


def _quantiles(ages: Ages) -> str:
    named = (("p50", ages.p50_ms), ("p95", ages.p95_ms), ("p99", ages.p99_ms), ("max", ages.max_ms))
    told = (f"{name} {'n/a' if value is None else f'{value:.1f}'}" for name, value in named)
    return f"{', '.join(told)} (n = {ages.count})"


if __name__ == "__main__":
    run_script(main)
