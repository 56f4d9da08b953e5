"""What people see of answers: on a terminal lines that grow, elsewhere a line an answer."""

from __future__ import annotations

import io
import sys

import msgspec
import pytest
from spoken_answer import ANSWER

from edge_sdk.explaining import AnswersView, Piece, ReasoningReport, Reply
from edge_sdk.explaining.view import answer_line, remarks

REPORT = ReasoningReport(
    ms={"vision": 10.0, "prefill": 20.0, "after_last_frame": 5.4, "decode": 40.0},
    frames=96,
    grid="364x196",
    kept_ratio=0.755,
    steps=3,
    weight_reads=9,
    slots=2048,
    rounds=1,
    memory_mb=44.0,
    resident_mb=200.0,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def tell(view: AnswersView) -> None:
    """An interval that comes in two pieces."""
    with view:
        for text in ("1.0 - ", "2.5 seconds"):
            view(Piece(task="crash_interval", text=text))
        view(Reply(task="crash_interval", answer=ANSWER))
        view(REPORT)


def test_a_log_gets_a_line_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    tell(AnswersView(("recognition", "crash_interval")))
    assert capsys.readouterr().out.splitlines() == [
        "crash_interval  1.0 - 2.5 seconds (80 %: 0.5-1.5 to 2.0-3.0 s)",
        "  96 frames of 364x196, 76% of their tokens kept; vision 10 ms, prefill 20 ms, after last frame 5 ms, "
        "decode 40 ms",
    ]


def test_one_task_streams_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    tell(AnswersView(("crash_interval",)))
    assert capsys.readouterr().out.startswith("1.0 - 2.5 seconds (80 %: 0.5-1.5 to 2.0-3.0 s)\n")


def test_a_value_that_differs_from_the_words_is_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    other = msgspec.structs.replace(ANSWER, value=(1.1, 2.7))
    assert answer_line("crash_interval", other) == "crash_interval  1.1 - 2.7 seconds (80 %: 0.5-1.5 to 2.0-3.0 s)"
    with AnswersView(("crash_interval",)) as view:
        view(Piece(task="crash_interval", text=other.text))
        view(Reply(task="crash_interval", answer=other))
    said = "1.0 - 2.5 seconds -> 1.1 - 2.7 seconds (80 %: 0.5-1.5 to 2.0-3.0 s)\n"
    assert capsys.readouterr().out == said


def test_a_terminal_is_redrawn_and_keeps_whole_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    view = AnswersView(("recognition", "crash_interval"))
    tell(view)
    growing, _, last = screen.getvalue().rpartition("\x1b[2F\x1b[J")
    assert "crash_interval  1.0 -" in growing
    assert last.splitlines()[0] == "crash_interval  1.0 - 2.5 seconds (80 %: 0.5-1.5 to 2.0-3.0 s)"
    assert "\x1b" not in last


def test_remarks_say_what_not_to_rely_on() -> None:
    sure = msgspec.structs.replace(
        ANSWER, form="yes_no", value=True, probability=0.91, calibrated=True, lo=None, hi=None
    )
    assert remarks(sure) == "(probability 0.91)"
    unsure = msgspec.structs.replace(sure, calibrated=False, abstain=True, contradiction=True)
    assert remarks(unsure) == "(score 0.91, not calibrated; unsure; contradicts the student or another answer)"
    assert remarks(msgspec.structs.replace(ANSWER, form="text", lo=None, hi=None)) == ""
