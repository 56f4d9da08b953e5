"""Answers of rendered scenes: the formats of CrashChat's annotations, windows, and one paragraph a cause."""

from __future__ import annotations

import re
from itertools import combinations
from typing import get_args

import msgspec
import pytest
from scene_records import scene_record

from edge_sdk.clips import Cause, Party, SceneTruth
from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.tasks.scene_answers import Window, cause_sentence, prevention, scene_answers
from edge_sdk.tasks import TASK_IDS

CRASH = scene_record((2.04, 3.515, 6.02))
CALM = scene_record(None)
TRUTH = SceneTruth(striker="truck", struck="car", crossing=True, cause="no_right_of_way", culprit="truck")


def test_a_crash_has_six_answers_in_the_formats_of_the_annotations() -> None:
    answers = scene_answers(CRASH, TRUTH)
    assert tuple(answers) == TASK_IDS
    assert answers["recognition"] == "Yes"
    assert answers["description"] == "truck hits car"
    assert answers["crash_interval"] == "3.5 - 6.0 seconds"
    assert answers["pre_crash_time"] == "2.0 seconds"
    assert re.fullmatch(r"The truck [a-z ]+\.", answers["cause"])
    assert answers["prevention"].startswith("Truck drivers should ")


def test_a_scene_without_a_crash_has_the_four_exact_negatives() -> None:
    assert scene_answers(CALM, SceneTruth()) == {
        "recognition": "No",
        "description": "no collision.",
        "cause": "No accident, no cause.",
        "prevention": "No accident, no prevention needed.",
    }


def test_times_count_from_the_window_and_end_in_it() -> None:
    answers = scene_answers(CRASH, TRUTH, Window(start_s=3.0, end_s=5.0))
    assert answers["crash_interval"] == "0.5 - 2.0 seconds"
    assert answers["pre_crash_time"] == "0.0 seconds"


def test_no_interval_is_empty() -> None:
    brief = msgspec.structs.replace(CRASH, crash_end_s=3.53)
    assert scene_answers(brief, TRUTH)["crash_interval"] == "3.5 - 3.6 seconds"


def test_a_window_before_the_crash_shows_none_and_one_after_it_is_refused() -> None:
    assert scene_answers(CRASH, TRUTH, Window(start_s=0.0, end_s=3.0)) == scene_answers(CALM, SceneTruth())
    with pytest.raises(ConfigError, match=r"after the crash \(3.515 s\)"):
        scene_answers(CRASH, TRUTH, Window(start_s=4.0, end_s=8.0))


def test_a_crash_without_a_cause_says_how_to_get_one() -> None:
    with pytest.raises(ConfigError, match="edge-sdk scenes truth"):
        scene_answers(CRASH, SceneTruth())


@pytest.mark.parametrize(
    ("truth", "kind", "said"),
    [
        (SceneTruth(striker="ego-car", struck="truck"), "rear_end", "ego-car hits a truck"),
        (SceneTruth(striker="car", struck="ego-car", crossing=True), "side", "ego-car hits a crossing car"),
        (SceneTruth(striker="car", struck="car"), "side", "car hits car"),
        (SceneTruth(striker="ego-car", struck="object"), "debris", "ego-car hits an object"),
        (SceneTruth(striker="car", struck="barrier"), "loss_of_control", "car is out of control"),
    ],
)
def test_descriptions(truth: SceneTruth, kind: str, said: str) -> None:
    record = msgspec.structs.replace(CRASH, kind=kind)
    full = msgspec.structs.replace(truth, cause="slippery_road", culprit="car")
    assert scene_answers(record, full)["description"] == said


def test_every_cause_and_culprit_has_one_sentence_and_one_paragraph_of_its_own() -> None:
    for texts in (
        [(cause_sentence(cause, who)) for cause in get_args(Cause) for who in get_args(Party)],
        [(prevention(cause, "car")) for cause in get_args(Cause)],
    ):
        assert all(first != second for first, second in combinations(texts, 2))
        assert all(re.fullmatch(r"[A-Z][^{}]*\.", text) for text in texts)
        assert not any(re.search(r"\b(left|right)\b(?! of way)", text) for text in texts)
