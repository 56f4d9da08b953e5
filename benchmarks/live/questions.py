"""Keep a reasoner busy during a measurement: clip after clip, with all questions for each, in its own process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_sdk.benchmarks.live.results import cpu_s
from edge_sdk.bundle import Bundle
from edge_sdk.errors import EdgeError, RuntimeFailure
from edge_sdk.explaining import ReasonerProcess, ReasonerSettings, Reply, history_settings, tasks_of
from edge_sdk.types import Value

_PICTURES = 4


class Questioned(Value, frozen=True, kw_only=True):
    """A reasoner's work during a measurement: `cores` is its CPU use in cores; `priority` and `threads` as set."""

    bundle_sha256: str
    profile: str
    threads: int
    priority: int
    frames: int
    answers: int
    cores: float


@dataclass
class Busy:
    """The work of one thread that asks questions; `begin` resets the counts."""

    process: ReasonerProcess
    frames_of_a_clip: int
    stopped: threading.Event = field(default_factory=threading.Event)
    frames: int = 0
    answers: int = 0
    error: EdgeError | None = None
    _since: tuple[float, float] = (0.0, 0.0)

    def begin(self) -> None:
        """Reset the counts and the time."""
        self.frames = self.answers = 0
        self._since = time.monotonic(), cpu_s(self.process.pid or 0)

    def told(self) -> Questioned:
        """The work since `begin`. Raises the error that ended the work, and `RuntimeFailure` where no work was done."""
        if self.error is not None:
            raise self.error
        if not self.frames:
            raise RuntimeFailure("the reasoner took no frame in all that time; give it fewer layers or more seconds")
        begun_s, used_s = self._since
        settings = self.process.settings
        return Questioned(
            bundle_sha256=self.process.bundle.sha256,
            profile=self.process.profile,
            threads=settings.threads,
            priority=settings.priority,
            frames=self.frames,
            answers=self.answers,
            cores=(cpu_s(self.process.pid or 0) - used_s) / (time.monotonic() - begun_s),
        )

    def work(self) -> None:
        """Ask until `stopped`."""
        kept = history_settings(self.process.language.profiles[self.process.profile])
        size = (_PICTURES, kept.height, kept.width, 3)
        pictures = np.random.default_rng(0).integers(0, 256, size, np.uint8)
        try:
            while not self.stopped.is_set():
                self._ask(pictures)
        except EdgeError as error:
            self.error = error

    def _ask(self, pictures: NDArray[np.uint8]) -> None:
        with self.process.begin(wait_s=10) as clip:
            for number in range(self.frames_of_a_clip):
                clip.push(pictures[number % _PICTURES], number / 10)
                self.frames += 1
                if self.stopped.is_set():
                    return
            for said in clip.ask(tasks_of(self.process.language, None)):
                self.answers += isinstance(said, Reply)
                if self.stopped.is_set():
                    return


@contextmanager
def asking(bundle: Bundle, frames: int, settings: ReasonerSettings | None = None) -> Iterator[Busy]:
    """Keep the reasoner of `bundle`, already opened, busy with clips of `frames` frames while the context is open."""
    with ReasonerProcess(bundle, settings) as process:
        process.begin().close()
        busy = Busy(process, frames)
        thread = threading.Thread(target=busy.work, daemon=True)
        thread.start()
        try:
            yield busy
        finally:
            busy.stopped.set()
            thread.join()
