"""CrashChat's own files as they are, and files that must not be taken for them."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.tasks import read_annotations, read_predictions
from edge_sdk.tasks import find_task


def item(video: str, task: str, answer: str, question: str | None = None) -> dict[str, Any]:
    asked = question or f"<video>\n{find_task(task).prompt}"
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    return {"video": [f"videos/{video}"], "conversations": turns, "source": "made"}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_the_validation_files_hold_what_the_data_set_says(shared_data: Path) -> None:
    found = read_annotations(shared_data / "crashchat-val")
    texts = ("recognition", "description", "cause", "prevention")
    assert {task: len(found.of(task)) for task in texts} == dict.fromkeys(texts, 1838)
    assert len(found.of("crash_interval")) == len(found.of("pre_crash_time")) == 1139
    assert sum(found.crash(video) is True for video in found.videos) == 1139
    kinds: dict[str, set[bool | None]] = {}
    for video, source in found.sources.items():
        kinds.setdefault(source, set()).add(found.crash(video))
    assert kinds == {"MM-AU-CAP": {True}, "MM-AU-DADA": {True}, "D2City": {False}, "Nexar": {False}}


def test_one_file_may_hold_several_tasks_and_a_question_may_lack_its_tag(tmp_path: Path) -> None:
    turns = item("a.mp4", "crash_interval", "3.0 - 4.5 seconds")["conversations"]
    turns += item("a.mp4", "pre_crash_time", "1.5 seconds", find_task("pre_crash_time").prompt)["conversations"]
    path = write(tmp_path / "any name.json", [{"video": ["x/y/a.mp4"], "conversations": turns, "id": 7}])
    found = read_annotations(path)
    assert found.videos == ("a.mp4",)
    assert (found.interval_s("a.mp4"), found.sign_s("a.mp4"), found.crash("a.mp4")) == ((3.0, 4.5), 1.5, True)
    assert found.sources == {"a.mp4": ""}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"video": ["a.mp4"]}, "annotation layout"),
        ([{"video": "a.mp4", "conversations": []}], "annotation layout"),
        ([{"video": ["a.mp4"], "conversations": []}], "item 0: expected the path of one video"),
        ([item("a.mp4", "recognition", "Yes", "<video>\nWhat colour is the car?")], "unknown question 'What colour"),
        ([item("a.mp4", "recognition", "Yes"), item("a.mp4", "recognition", "No")], "'No' here, 'Yes' before"),
        ([], "no question"),
    ],
)
def test_other_files_are_refused(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_annotations(write(tmp_path / "a.json", content))


def test_two_videos_of_one_name_are_refused_and_both_are_named(tmp_path: Path) -> None:
    first, second = item("a.mp4", "recognition", "Yes"), item("a.mp4", "crash_interval", "3.0 - 4.5 seconds")
    first["video"], second["video"] = ["cap/a.mp4"], ["dada/a.mp4"]
    with pytest.raises(ConfigError, match=r"cap/a\.mp4 and dada/a\.mp4 have the same name"):
        read_annotations(write(tmp_path / "a.json", [first, second]))
    # One path in two spellings is one video.
    first["video"], second["video"] = ["./cap/a.mp4"], ["cap\\a.mp4"]
    assert read_annotations(write(tmp_path / "a.json", [first, second])).videos == ("a.mp4",)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_known_source_stays_known(order: tuple[int, ...], tmp_path: Path) -> None:
    rows = [
        item("a.mp4", "recognition", "Yes"),
        item("a.mp4", "crash_interval", "3.0 - 4.5 seconds") | {"source": ""},
        item("a.mp4", "recognition", "Yes") | {"source": ""},
    ]
    for name, row in zip("abc", order, strict=True):
        write(tmp_path / f"{name}.json", [rows[row]])
    found = read_annotations(tmp_path)
    assert found.sources == {"a.mp4": "made"}
    assert found.of("recognition")["a.mp4"].source == "made"


def test_missing_files_are_refused(tmp_path: Path) -> None:
    for read in (read_annotations, read_predictions):
        with pytest.raises(ConfigError, match="cannot read"):
            read(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="holds no annotations"):
        read_annotations(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"v/a.mp4": {"recognitio": "Yes"}}, "video a.mp4: .*recognitio"),
        ({"v/a.mp4": {"recognition": True}}, "video a.mp4: Expected `str"),
        ({"v/a.mp4": {}, "w/a.mp4": {}}, "two videos are named 'a.mp4'"),
        ({"a.mp4": {"crash_probability": 1.5}}, "between 0 and 1, found 1.5"),
        ({"a.mp4": {"duration_s": 0}}, "more than 0"),
        ({"a.mp4": {"alarms_s": [-1]}}, "times of at least 0 s"),
        ({"a.mp4": {"scores": {"caption": {"f1": 1.0}}}}, "scores names 'caption'"),
        ([1, 2], "not a file of answers"),
    ],
)
def test_other_predictions_are_refused(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_predictions(write(tmp_path / "p.json", content))


def test_files_of_other_systems_are_read(tmp_path: Path) -> None:
    """macOS leaves `._NAME` beside a file, and Windows may write a mark before the text."""
    path = write(tmp_path / "a.json", [item("a.mp4", "recognition", "Yes")])
    path.write_bytes(BOM_UTF8 + path.read_bytes())
    (tmp_path / "._a.json").write_bytes(b"\x00\x05\x16\x07")
    assert read_annotations(tmp_path).videos == ("a.mp4",)


def test_a_video_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="item 0: expected the path of one video"):
        read_annotations(write(tmp_path / "a.json", [item("a.mp4", "recognition", "Yes") | {"video": [""]}]))
