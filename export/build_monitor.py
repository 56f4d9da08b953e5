"""Turn TensorRT's progress reports into one number, and let Ctrl-C stop a build.

A builder reports phases that begin, count steps and may contain further phases. Ctrl-C cannot interrupt a running
step, but the builder asks after each step whether to continue.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from edge_sdk.engine.tensorrt_library import TensorRT

# Called with the share of the build that is done, 0 to 1, and the name of the phase.
OnProgress = Callable[[float, str], None]


class Phases:
    """Nested phases as one share of the whole: all steps of a phase count equally."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str | None, int, int]] = {}  # name -> parent, steps, steps done
        self._furthest = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of `steps` steps begins, inside `parent` or at the top level."""
        self._open[name] = (parent, max(steps, 1), 0)

    def step(self, name: str, step: int) -> None:
        """Step number `step`, counted from 0, of a phase is done."""
        if name in self._open:
            parent, steps, _ = self._open[name]
            self._open[name] = (parent, steps, min(step + 1, steps))

    def finish(self, name: str) -> None:
        """A phase has ended, with all its steps done or not."""
        self._open.pop(name, None)

    def share(self) -> float:
        """Share of the outermost phase that is done; it never decreases, even if the builder reopens a phase."""
        roots = [name for name, (parent, _, _) in self._open.items() if parent not in self._open]
        self._furthest = max([self._furthest, *(self._share(root) for root in roots)])
        return self._furthest

    def _share(self, name: str) -> float:
        _, steps, done = self._open[name]
        inside = [self._share(child) for child, (parent, _, _) in self._open.items() if parent == name]
        return min(1.0, (done + max(inside, default=0.0)) / steps)


class Stop:
    """Whether somebody wants the build to end."""

    def __init__(self) -> None:
        self.wanted = False


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Turn Ctrl-C into a request that the builder reads at its next step; raises `KeyboardInterrupt` on leaving.

    Only the main thread receives signals; in another thread this changes nothing.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def wish(signum: int, frame: FrameType | None) -> None:
        stop.wanted = True

    before = signal.signal(signal.SIGINT, wish)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
    if stop.wanted:
        raise KeyboardInterrupt


# Any: the class is derived from one of the package's, which ships no types.
def monitor(tensorrt: TensorRT, stop: Stop, on_progress: OnProgress) -> Any:
    """A progress monitor for a builder's configuration."""
    base = tensorrt.module.IProgressMonitor
    phases = Phases()

    class Monitor(base):  # type: ignore[misc, valid-type]  # a class of a package without types
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)
            on_progress(phases.share(), phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step)
            on_progress(phases.share(), phase_name)
            return not stop.wanted

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()
