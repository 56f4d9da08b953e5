"""Find how many 720p30 cameras this machine watches at five rounds a second, adding one until it cannot keep up.

    python -m edge_sdk.benchmarks.live.knee --most 8 --seconds 30 --out DIR

All cameras are one server's shared stream, encoded once and sent N times, so that the load of the server, which is on
the same machine, grows little. Every source is received and decoded separately.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import edge_sdk
from edge_sdk.benchmarks.live.ages import RATE_HZ, WARM_UP_S, Tally, collect
from edge_sdk.benchmarks.live.plots import draw_knee
from edge_sdk.benchmarks.live.results import (
    LEAST_FRESH,
    Ages,
    Observer,
    Setting,
    ages_of,
    check_length,
    cpu_s,
    worst_of,
    write_result,
)
from edge_sdk.benchmarks.live.server import VIEWS, RtspServer, Stream
from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.console import run_script
from edge_sdk.errors import ConfigError, EdgeError
from edge_sdk.types import Value

LIMIT_P95_MS = 200.0


class KneeStep(Value, frozen=True, kw_only=True):
    """The measurement of one number of sources.

    `age` has each quantile of the source where it is greatest, with one age per due round (`AgeRun.shown`). `each` has
    those of every source. Ages of a round are not independent, so sources are not pooled. `fresh` is the share of due
    rounds in which the worst source had a new frame; `other_cores` is the CPU use, in cores, of unrelated programs
    meanwhile.
    """

    sources: int
    age: Ages
    each: tuple[Ages, ...]
    fresh: float
    missed_rounds: int
    unreadable: int
    student_p50_ms: float | None
    own_cores: float
    server_cores: float
    other_cores: float | None
    keeps_up: bool


class KneeRun(Value, frozen=True, kw_only=True):
    """All steps. `knee` is the largest number of sources up to which every step kept up, 0 for none."""

    schema: int = 2
    name: str = "sources at 720p30"
    rate_hz: float
    seconds: float
    limit_p95_ms: float = LIMIT_P95_MS
    least_fresh: float = LEAST_FRESH
    steps: tuple[KneeStep, ...]
    knee: int
    setting: Setting


def knee_of(steps: Sequence[KneeStep]) -> int:
    """The largest number of sources up to which every step kept up; 0 where the first step did not."""
    knee = 0
    for step in steps:
        if not step.keeps_up:
            break
        knee = step.sources
    return knee


def judge(tallies: Sequence[Tally], due: float, setting: Setting) -> KneeStep:
    """Evaluate one step from its tallies, one per source; `due` is the number of rounds that were due."""
    each = tuple(ages_of(tally.shown_ms) for tally in tallies)
    age, fresh = worst_of(each), min(tally.fresh(due) for tally in tallies)
    return KneeStep(
        sources=len(tallies),
        age=age,
        each=each,
        fresh=fresh,
        missed_rounds=max(tally.missed for tally in tallies),
        unreadable=sum(tally.unreadable for tally in tallies),
        student_p50_ms=ages_of([value for tally in tallies for value in tally.student_ms]).p50_ms,
        own_cores=setting.own_cores,
        server_cores=setting.server_cores or 0.0,
        other_cores=setting.machine.other_cores,
        keeps_up=fresh >= LEAST_FRESH and age.p95_ms is not None and age.p95_ms <= LIMIT_P95_MS,
    )


def run_step(stream: Stream, bundle: Bundle, sources: int, seconds: float, rate_hz: float) -> tuple[KneeStep, Setting]:
    """Measure with `sources` sources."""
    aspect, observer = stream.width / stream.height, Observer()
    tallies = [Tally(aspect, 1e3 / rate_hz) for _ in range(sources)]
    with RtspServer(stream) as server, edge_sdk.open(server.views(sources), bundle, rate_hz=rate_hz) as unit:
        collect(unit, tallies, observer, seconds)
        server_cores = cpu_s(server.pid) / (WARM_UP_S + seconds)
    setting = observer.setting(server.stream, bundle.sha256, server_cores)
    return judge(tallies, seconds * rate_hz, setting), setting


def run_knee(stream: Stream, bundle: Bundle, most: int, seconds: float, rate_hz: float) -> KneeRun:
    """Add sources until one step does not keep up, or `most` are reached.

    Raises `ConfigError` for less than one source or more than the camera has views, and for steps too short for a p95.
    """
    if not 1 <= most <= VIEWS:
        raise ConfigError(f"expected 1 to {VIEWS} sources, found {most}")
    check_length(seconds, rate_hz)
    print(HEAD)
    steps: list[KneeStep] = []
    for sources in range(1, most + 1):
        step, setting = run_step(stream, bundle, sources, seconds, rate_hz)
        steps.append(step)
        print(row(step), flush=True)
        if not step.keeps_up:
            break
    return KneeRun(rate_hz=rate_hz, seconds=seconds, steps=tuple(steps), knee=knee_of(steps), setting=setting)


HEAD = (
    "| sources | worst p50 ms | p95 | p99 | max | fresh | missed | student ms | cores | server | others | keeps up |\n"
    "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|"
)


def row(step: KneeStep) -> str:
    """The step as a row of the table."""
    age = [_number(value) for value in (step.age.p50_ms, step.age.p95_ms, step.age.p99_ms, step.age.max_ms)]
    cells = [str(step.sources), *age, f"{step.fresh:.1%}", str(step.missed_rounds), _number(step.student_p50_ms)]
    cells += [f"{step.own_cores:.2f}", f"{step.server_cores:.2f}"]
    cells += ["n/a" if step.other_cores is None else f"{step.other_cores:.2f}", "yes" if step.keeps_up else "no"]
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code, 1 where not even one source keeps up."""
    parser = argparse.ArgumentParser(prog="knee", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--most", type=int, default=8, help="sources at which to stop in any case")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each step after its warm-up")
    parser.add_argument("--rate", type=float, default=5.0, help="rounds a second")
    parser.add_argument("--bundle", type=Path, help="bundle folder; the demo bundle by default")
    parser.add_argument("--out", type=Path, default=Path("out/live"))
    chosen = parser.parse_args(arguments)
    try:
        run = run_knee(Stream(rate_hz=RATE_HZ), open_bundle(chosen.bundle), chosen.most, chosen.seconds, chosen.rate)
    except EdgeError as error:
        print(f"knee: {error}", file=sys.stderr)
        return error.exit_code
    write_result(run, chosen.out / "knee.json")
    told = [step for step in run.steps if step.age.p50_ms is not None and step.age.p95_ms is not None]
    draw_knee(
        f"720p30 H.264 cameras, student at {run.rate_hz:g} rounds a second: the knee is at {run.knee}",
        [step.sources for step in told],
        [step.age.p50_ms or 0.0 for step in told],
        [step.age.p95_ms or 0.0 for step in told],
        [step.fresh for step in told],
        LIMIT_P95_MS,
        chosen.out / "knee.png",
    )
    print(f"knee: {run.knee}; validity: {'; '.join(run.setting.validity) or 'nothing to note'}")
    return 0 if run.knee else 1


if __name__ == "__main__":
    run_script(main)
