"""`edge-sdk run`: events and source states as JSON lines on stdout, a status line on stderr, a clean end on signals.

The first SIGINT or SIGTERM ends the loop after the current round. Open events are then closed and printed, and the
sources are released. A second signal interrupts at once. SIGUSR1 triggers an event by hand on every source.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.capture import LiveSettings, SourceChange, is_live, limit_arenas
from edge_sdk.capture.ages import AgeReport
from edge_sdk.capture.settings import SourceStats
from edge_sdk.cli.printing import Outputs
from edge_sdk.cli.saving import EventSaver, SavedCounts, Saving, with_ring
from edge_sdk.errors import EdgeError
from edge_sdk.events import Event
from edge_sdk.feeders import SourceView
from edge_sdk.types import Value
from edge_sdk.unit import Unit

STATUS_EVERY_S = 1.0
# If stderr is not a terminal, each status line is a line in a log.
LOG_EVERY_S = 60.0


class SourceSummary(Value, frozen=True, kw_only=True):
    """The final state and statistics of one source."""

    uri: str
    state: str
    stats: SourceStats
    age_ms: AgeReport | None


class RunSummary(Value, frozen=True, kw_only=True):
    """The last line that `edge-sdk run --json` prints.

    `dropped_lines` counts lines of stdout that were dropped because its reader stalled. `output_errors` names the
    outputs that failed, with the reason.
    """

    schema: int = 1
    sources: tuple[SourceSummary, ...]
    events: int
    missed_rounds: int
    signal: str | None
    clips: SavedCounts | None = None
    dropped_lines: int = 0
    output_errors: tuple[str, ...] = ()


def run_sources(
    sources: Sequence[str],
    bundle: Bundle | str | Path | None = None,
    *,
    runtime: str,
    threads: int,
    device: str = "cpu",
    live: LiveSettings | None = None,
    rate_hz: float | None = None,
    operating_point: str | None = None,
    saving: Saving | None = None,
    quiet: bool = False,
) -> RunSummary:
    """Watch `sources` until they end or a signal arrives; print as the module docstring says.

    With `quiet`, there is no status line, and the summary is the last line on stdout.

    `live` with its default values is accepted even if all sources are files, because the command line always passes it.
    Raises what `Unit` and `EventSaver` raise, and what `Outputs.end` raises if an output failed.
    """
    limit_arenas()
    chosen = live if live != LiveSettings() else None
    if saving is not None and any(is_live(source) for source in sources):
        chosen = with_ring(live or LiveSettings(), saving)
    with (
        Outputs(needed=saving is None) as outputs,
        _button() as button,
        Unit(
            sources,
            bundle,
            runtime=runtime,
            threads=threads,
            device=device,
            live=chosen,
            rate_hz=rate_hz,
            operating_point=operating_point,
        ) as unit,
        _draining(unit) as heard,
    ):
        status = Status(unit, outputs, quiet=quiet)
        with _saver(unit, saving, status, outputs) as saver:
            events = _watch(unit, outputs, status, button, saver)
        if button.pressed():
            status.complain(["no event was triggered by the last SIGUSR1: the run was ending already"])
        status.clear()
        summary = RunSummary(
            sources=tuple(_summary(view) for view in unit.sources),
            events=events,
            missed_rounds=unit.missed_rounds,
            signal=heard[0] if heard else None,
            clips=saver.counts if saver is not None else None,
            dropped_lines=outputs.dropped,
            output_errors=outputs.failures,
        )
        status.warn()
        if quiet:
            outputs.say(msgspec.json.encode(summary).decode())
    outputs.end()
    return summary


def _saver(
    unit: Unit, saving: Saving | None, status: Status, outputs: Outputs
) -> AbstractContextManager[EventSaver | None]:
    if saving is None:
        return nullcontext()
    return EventSaver(unit, saving, status.complain, outputs.say)


def _watch(unit: Unit, outputs: Outputs, status: Status, button: Button, saver: EventSaver | None) -> int:
    """Print what `unit` delivers until it ends; return the number of event revisions."""
    events = 0

    def on_round() -> None:
        if button.pressed():
            status.complain(trigger_all(unit))
        if saver is not None:
            saver.tell()
        outputs.check()
        status.show()

    for item in unit.watch(on_round=on_round):
        if isinstance(item, Event):
            events += 1
            if saver is not None:
                saver.notice(item)
        outputs.say(item.to_json() if isinstance(item, Event) else _line(item))
    return events


class Status:
    """A status line for all sources: redrawn each second on a terminal, written once a minute to a log."""

    def __init__(self, unit: Unit, outputs: Outputs, *, quiet: bool = False) -> None:
        self._unit, self._outputs = unit, outputs
        self._terminal = sys.stderr.isatty()
        self._quiet = quiet
        self._every_s = STATUS_EVERY_S if self._terminal else LOG_EVERY_S
        self._next_s = time.monotonic() + self._every_s
        self._told: set[str] = set()

    def warn(self) -> None:
        """Print the sources' warnings that have not been printed yet."""
        new = [text for view in self._unit.sources for text in view.stats.warnings if text not in self._told]
        self._told.update(new)
        self.complain(new)

    def complain(self, texts: Sequence[str]) -> None:
        """Clear the status line and print `texts` as warnings."""
        if texts:
            self.clear()
            self._outputs.warn(texts)

    def show(self) -> None:
        """Print new warnings and, unless quiet, draw the status line, if they are due."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._every_s
        self.warn()
        if not self._quiet:
            line = describe_sources(self._unit.sources)
            self._outputs.draw(f"\r\x1b[K{line}" if self._terminal else f"edge-sdk: {line}\n")

    def clear(self) -> None:
        """Erase the status line from the terminal."""
        if self._terminal and not self._quiet:
            self._outputs.draw("\r\x1b[K")


class Button:
    """A signal that acts as a button.

    The handler only sets a flag: the code that it interrupts may hold the lock that a trigger needs.
    """

    def __init__(self) -> None:
        self._pressed = False

    def press(self, _number: int, _frame: FrameType | None) -> None:
        """Handle the signal."""
        self._pressed = True

    def pressed(self) -> bool:
        """Whether the button was pressed since the last call."""
        if not self._pressed:
            return False
        self._pressed = False
        return True


def trigger_all(unit: Unit) -> list[str]:
    """Trigger an event by hand on every source of `unit`; return the reasons of the sources that failed."""
    return [why for stream in unit.streams if (why := _failing(unit, stream.feeder.uri)) is not None]


def _failing(unit: Unit, source: str) -> str | None:
    try:
        unit.trigger(source)
    except EdgeError as error:
        return f"no event was triggered: {error}"
    return None


def describe_sources(views: Sequence[SourceView]) -> str:
    """Return one line with each source's state and frames and, if it is live, the age of its frames when scored."""
    return " | ".join(_describe(view) for view in views)


def _describe(view: SourceView) -> str:
    age = f", age p95 {view.age.p95_ms:.0f} ms" if view.age is not None and view.age.p95_ms is not None else ""
    return f"{view.uri}: {view.state}, {view.stats.delivered} frames{age}"


def _line(change: SourceChange) -> str:
    """Encode a change of state as one JSON line; its only key distinguishes it from an event."""
    return msgspec.json.encode({"source_state": change}).decode()


def _summary(view: SourceView) -> SourceSummary:
    return SourceSummary(uri=view.uri, state=view.state, stats=view.stats, age_ms=view.age)


@contextmanager
def _button() -> Iterator[Button]:
    """Let SIGUSR1 press a button inside the block; restore the earlier handler at the end."""
    button = Button()
    before = signal.signal(signal.SIGUSR1, button.press)
    try:
        yield button
    finally:
        signal.signal(signal.SIGUSR1, before)


@contextmanager
def _draining(unit: Unit) -> Iterator[list[str]]:
    """Let the first SIGINT or SIGTERM stop `unit` and note its name; restore the earlier handlers at the end."""
    heard: list[str] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(signal.Signals(number).name)
        unit.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
