"""`make bench-gate`: measure what this SDK promises in one run, and assert 0.85 of each promised value.

The margin allows for shared machines. Student, bare ONNX Runtime and file pipeline alternate over the rounds, and the
median round counts.
The last line of stdout is one JSON document; the exit code is 1 where a promise is not kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import msgspec

from edge_sdk.benchmarks.bare import bare_ms
from edge_sdk.benchmarks.conditions import Watch, validity
from edge_sdk.benchmarks.make_clip import make_clip
from edge_sdk.benchmarks.measure import Limits
from edge_sdk.benchmarks.pipeline import FileTimes, student_ms, time_file
from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.console import run_script
from edge_sdk.errors import ConfigError, EdgeError
from edge_sdk.perception.recogniser import student_of
from edge_sdk.registry import DEFAULT_RUNTIME, open_runtime
from edge_sdk.types import Value

MARGIN = 0.85
STUDENT_FPS = 100.0
STUDENT_HEIGHT, STUDENT_WIDTH = 192, 320
BARE_RATIO = 0.80
FILE_RATIO = 0.70
STUDENT_LIMITS = Limits(warmup_s=0.5, duration_s=2.0, min_samples=64)


class Promise(Value, frozen=True, kw_only=True):
    """One measured number, its promised value, and the value that is asserted."""

    name: str
    found: float
    rounds: tuple[float, ...]
    target: float
    asserted: float
    ok: bool


class Gate(Value, frozen=True, kw_only=True):
    """All promises, and notes on conditions that make the machine an unfair judge."""

    promises: tuple[Promise, ...]
    clip_s: float
    validity: tuple[str, ...]
    ok: bool


def run_gate(bundle: Bundle, clip: Path, clip_s: float, rounds: int) -> Gate:
    """Measure `rounds` alternating rounds on the 1080p file `clip`. Raises `ConfigError` for a student too small."""
    student = student_of(bundle)
    if student.height * student.width < STUDENT_HEIGHT * STUDENT_WIDTH:
        raise ConfigError(
            f"the promise is for pictures of {STUDENT_WIDTH}x{STUDENT_HEIGHT}; "
            f"this student takes {student.width}x{student.height}"
        )
    watch = Watch()
    frame_rates, shares, times = list[float](), list[float](), list[FileTimes]()
    for _ in range(rounds):
        bare, whole = bare_ms(bundle, STUDENT_LIMITS), student_ms(bundle, STUDENT_LIMITS)
        frame_rates.append(1e3 / whole)
        shares.append(bare / whole)
        times.append(time_file(clip, bundle))
        watch.look()
    promises = promises_of(frame_rates, shares, times)
    return Gate(
        promises=promises,
        clip_s=clip_s,
        validity=tuple(validity(watch.state(open_runtime(DEFAULT_RUNTIME).describe()))),
        ok=all(promise.ok for promise in promises),
    )


def promises_of(
    frame_rates: Sequence[float], shares: Sequence[float], times: Sequence[FileTimes]
) -> tuple[Promise, ...]:
    """The medians against `MARGIN` of their targets."""
    return (
        _promise("student, frames a second, one thread", frame_rates, STUDENT_FPS),
        _promise("student, picture to scores, share of bare ONNX Runtime's speed", shares, BARE_RATIO),
        _promise("file pipeline, share of decode-only speed", [each.ratio for each in times], FILE_RATIO),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the gate from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench-gate", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, help="bundle folder; the demo bundle by default")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of the 1080p30 file")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(arguments)
    try:
        with TemporaryDirectory() as folder:
            clip = make_clip(Path(folder) / "clip.mp4", seconds=chosen.seconds)
            gate = run_gate(open_bundle(chosen.bundle), clip, chosen.seconds, max(1, chosen.rounds))
    except EdgeError as error:
        print(f"bench-gate: {error}", file=sys.stderr)
        return error.exit_code
    for promise in gate.promises:
        verdict = "ok" if promise.ok else "NOT KEPT"
        print(f"{promise.name}: {promise.found:.2f}, asserted {promise.asserted:.3g}: {verdict}")
    print("validity:", "; ".join(gate.validity) or "nothing to note")
    print(msgspec.json.encode(gate).decode())
    return 0 if gate.ok else 1


def _promise(name: str, rounds: Sequence[float], target: float) -> Promise:
    found, asserted = median(rounds), MARGIN * target
    return Promise(name=name, found=found, rounds=tuple(rounds), target=target, asserted=asserted, ok=found >= asserted)


if __name__ == "__main__":
    run_script(main)
