"""The order that tells a process of a campaign what to measure."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.runtime import SessionOptions
from edge_sdk.types import Value

# name in the tables -> runtime, device of its options
RUNTIMES: dict[str, tuple[str, str]] = {
    "trt": ("trt", "cuda"),
    "rtx": ("rtx", "cuda"),
    "ort-cuda": ("ort", "cuda"),
    "ort": ("ort", "cpu"),
}


class Amounts(Value, frozen=True, kw_only=True):
    """How much is measured.

    `context` tokens are prefilled in calls of `chunk`, `passes` times; then `tokens` are decoded. The student is timed
    for `student_s` and at least `student_frames`, vision `vision_runs` times. Each is warmed up first.
    """

    context: int = 8192
    chunk: int = 512
    tokens: int = 128
    passes: int = 5
    warm_passes: int = 1
    warm_tokens: int = 8
    vision_runs: int = 30
    vision_warm: int = 5
    student_s: float = 5.0
    student_warm_s: float = 1.0
    student_frames: int = 662


QUICK = Amounts(
    context=512,
    tokens=16,
    passes=3,
    warm_tokens=4,
    vision_runs=11,
    vision_warm=2,
    student_s=0.5,
    student_warm_s=0.2,
    student_frames=64,
)
"""Enough to see that everything runs; too little to be quoted."""


class Order(Value, frozen=True, kw_only=True):
    """One process: a runtime of `RUNTIMES` on the bundle in `folder`, or transformers on the checkpoint in it.

    `seconds` is the process's time limit. `target` is the hardware whose limits its shares refer to. `engines` is the
    folder of engines, by default the user's cache. `threads` are CPU threads; 0 lets the runtime choose. `subject` is
    the name of the bundle or checkpoint in the tables.
    """

    runtime: str
    folder: str
    subject: str
    seconds: float
    target: str | None
    amounts: Amounts
    engines: str | None = None
    threads: int = 0

    @property
    def runtime_name(self) -> str:
        """The runtime's name in the registry."""
        return RUNTIMES[self.runtime][0]

    @property
    def options(self) -> SessionOptions:
        """The options for opening the process's sessions."""
        engines = Path(self.engines) if self.engines else None
        return SessionOptions(threads=self.threads, device=RUNTIMES[self.runtime][1], engines=engines)
