"""The six tasks against the data they come from."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from edge_sdk.errors import UnknownNameError
from edge_sdk.evaluation.tasks import parse
from edge_sdk.tasks import TASKS, Task, find_task, in_words

# Share of clips without a crash in CrashChat's validation files: 699 of 1,838.
NEGATIVES = 699
# What the data set calls the tasks, in its file names and its list of prompts.
DATA_NAMES = {
    "recognition": "crash_recognition",
    "description": "crash_description",
    "cause": "cause_reasoning",
    "prevention": "prevention_reasoning",
    "crash_interval": "crash_localization",
    "pre_crash_time": "pre_crash_localization",
}
FORMS = {"yes_no": r"Yes|No", "interval": r"\d+\.\d - \d+\.\d seconds", "time": r"\d+\.\d seconds", "text": r"\S.*"}
by_id = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)


def conversations(shared_data: Path, task: Task) -> list[tuple[str, str]]:
    file = next((shared_data / "crashchat-val").glob(f"*_total_{DATA_NAMES[task.id]}_val.json"))
    return [tuple(turn["value"] for turn in row["conversations"]) for row in json.loads(file.read_text())]


def test_prompts_are_those_of_the_data_set(shared_data: Path) -> None:
    published = json.loads((shared_data / "crashchat-prompts.json").read_text())
    assert {DATA_NAMES[task.id]: f"<video>\n{task.prompt}" for task in TASKS} == published


@by_id
def test_every_row_asks_and_answers_as_the_task_says(shared_data: Path, task: Task) -> None:
    rows = conversations(shared_data, task)
    assert {question for question, _ in rows} == {f"<video>\n{task.prompt}"}
    assert all(re.fullmatch(FORMS[task.form], answer) for _, answer in rows)
    answers = Counter(answer for _, answer in rows)
    assert answers[task.negative or ""] == (NEGATIVES if task.negative else 0)


def test_localisation_belongs_to_perception() -> None:
    assert {task.id for task in TASKS if task.adapter == "perception"} == {
        "crash_interval",
        "pre_crash_time",
    }


def test_a_task_by_name() -> None:
    assert find_task("recognition") is TASKS[0]
    with pytest.raises(UnknownNameError, match=r"'crash'.*cause, crash_interval"):
        find_task("crash")


def test_an_answer_in_words_is_what_the_rules_of_parsing_read_back() -> None:
    assert in_words((4.0, 6.25), "4.1 - 6.0 seconds") == "4.0 - 6.2 seconds"
    assert parse.interval(in_words((9.5, 10.1), "")) == (9.5, 10.1)
    assert parse.time(in_words(3.7, "3.9 seconds")) == 3.7
    assert in_words(True, "Yes") == "Yes"
    assert in_words(False, "no") == "no"
    # What the student and the video LLM hold for likelier together is not always the latter's own word.
    assert (in_words(True, "No"), in_words(False, "Yes")) == ("Yes", "No")
    assert in_words(None, "car hits a truck") == "car hits a truck"
