"""Show answers as they come: on a terminal a growing line per task, redrawn in place; elsewhere a line per answer."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence

from edge_sdk.console import say
from edge_sdk.events import Answer
from edge_sdk.explaining.messages import Piece, ReasoningReport, Reply
from edge_sdk.tasks import in_words

_REFRESH_S = 0.05


class AnswersView:
    """Shows answers to `tasks`. Call it with each item; `close` it at the end, or use it as a context manager.

    `stream` shows text as it comes where that is possible: on a terminal, and for a single task anywhere.
    """

    def __init__(self, tasks: Sequence[str], *, stream: bool = True) -> None:
        self._tasks = tuple(tasks)
        self._terminal = stream and sys.stdout.isatty()
        self._running = stream and not self._terminal and len(self._tasks) == 1
        self._texts = dict.fromkeys(self._tasks, "")
        self._answers: dict[str, Answer] = {}
        self._report: ReasoningReport | None = None
        self._drawn, self._drawn_s = 0, 0.0

    def __call__(self, item: Piece | Reply | ReasoningReport) -> None:
        """Show one more item."""
        if isinstance(item, Piece):
            self._texts[item.task] = self._texts.get(item.task, "") + item.text
            if self._running:
                sys.stdout.write(item.text)
                sys.stdout.flush()
        elif isinstance(item, Reply):
            self._answers[item.task] = item.answer
            self._texts[item.task] = in_words(item.answer.value, item.answer.text)
            if self._running:
                say(f" {_taken(item.answer)}{remarks(item.answer)}".rstrip())
            elif not self._terminal:
                say(answer_line(item.task, item.answer))
        elif not self._terminal:
            say(costs(item))
        else:
            self._report = item
        if self._terminal and time.monotonic() - self._drawn_s >= _REFRESH_S:
            self._draw()

    def close(self) -> None:
        """Replace the growing lines with the complete answers."""
        if not self._terminal:
            return
        self._erase()
        self._terminal = False
        for task in self._tasks:
            if task in self._answers:
                say(answer_line(task, self._answers[task]))
            elif self._texts[task]:
                say(f"{task:15} {self._texts[task]} ... (not finished)")
        if self._report is not None:
            say(costs(self._report))

    def __enter__(self) -> AnswersView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _draw(self) -> None:
        """Draw one line per task, with only the end of a text that is longer than the line."""
        width = shutil.get_terminal_size().columns - 1
        self._erase()
        for task in self._tasks:
            text = " ".join(self._texts[task].split())
            room = max(8, width - 16)
            sys.stdout.write(f"{task:15} {text if len(text) <= room else '...' + text[3 - room :]}"[:width] + "\n")
        sys.stdout.flush()
        self._drawn, self._drawn_s = len(self._tasks), time.monotonic()

    def _erase(self) -> None:
        if self._drawn:
            sys.stdout.write(f"\x1b[{self._drawn}F\x1b[J")
        self._drawn = 0


def costs(report: ReasoningReport) -> str:
    """Return the cost of answering as one readable line."""
    took = ", ".join(f"{name.replace('_', ' ')} {ms:.0f} ms" for name, ms in report.ms.items())
    rounds = f"; asked in {report.rounds} rounds, for want of slots in the cache" if report.rounds > 1 else ""
    return f"  {report.frames} frames of {report.grid}, {report.kept_ratio:.0%} of their tokens kept; {took}{rounds}"


def answer_line(task: str, answer: Answer) -> str:
    """Return one answer as a readable line: the task, the answer, and how certain it is."""
    return f"{task:15} {in_words(answer.value, answer.text)} {remarks(answer)}".rstrip()


def _taken(answer: Answer) -> str:
    """Return the answer in words if they differ from the text that was streamed, else nothing."""
    words = in_words(answer.value, answer.text)
    return "" if words == answer.text else f"-> {words} "


def remarks(answer: Answer) -> str:
    """Return remarks about an answer in brackets; empty if there are none."""
    notes = []
    if answer.probability is not None and answer.form == "yes_no":
        chance = f"{answer.probability:.2f}"
        notes.append(f"probability {chance}" if answer.calibrated else f"score {chance}, not calibrated")
    if isinstance(answer.lo, float) and isinstance(answer.hi, float):
        notes.append(f"80 %: {answer.lo:.1f}-{answer.hi:.1f} s")
    elif isinstance(answer.lo, tuple) and isinstance(answer.hi, tuple):
        notes.append(f"80 %: {answer.lo[0]:.1f}-{answer.hi[0]:.1f} to {answer.lo[1]:.1f}-{answer.hi[1]:.1f} s")
    if answer.with_student:
        notes.append("with the student")
    if answer.abstain:
        notes.append("unsure")
    if answer.contradiction:
        notes.append("contradicts the student or another answer")
    return f"({'; '.join(notes)})" if notes else ""
