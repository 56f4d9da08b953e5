"""What `edge-sdk explain` takes for its subject, from what other verbs print."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import msgspec
import pytest
from command_line import sdk

from edge_sdk.bundle import default_bundle
from edge_sdk.cli.explain import explain, read_subject
from edge_sdk.errors import ConfigError
from edge_sdk.events import Event, EventClip
from edge_sdk.explaining import ReasonerSettings

CLIP = default_bundle() / "demo" / "clip.mp4"


@pytest.fixture(scope="module")
def watched() -> str:
    """What `run --json` prints about a clip with a crash: its events, and a summary behind them."""
    return printed("run", str(CLIP), "--json")


@pytest.fixture(scope="module")
def analysed() -> str:
    return printed("analyze", str(CLIP), "--json")


def printed(*words: str) -> str:
    done = sdk(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def saved(folder: Path, text: str) -> str:
    path = folder / "printed.jsonl"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_last_event_of_a_run_counts_though_a_summary_follows(watched: str, tmp_path: Path) -> None:
    *events, summary = watched.splitlines()
    assert "id" not in json.loads(summary)
    found = read_subject(saved(tmp_path, watched))
    assert found.clip == CLIP.absolute().as_uri()
    assert found.event is not None
    assert found.event.state == "closed"
    assert json.loads(found.event.to_json()) == json.loads(events[-1])


def test_what_is_no_event_is_passed_over(watched: str, tmp_path: Path) -> None:
    """States of sources, words of a wrapper, and a line that a power cut has shortened."""
    events = watched.splitlines()[:-1]
    state = '{"source_state":{"source":"rtsp://10.0.0.7/","state":"live","at_s":1.0}}'
    text = "\n".join([state, "started", *events, state, events[0][:200]])
    found = read_subject(saved(tmp_path, text)).event
    assert found is not None
    assert json.loads(found.to_json()) == json.loads(events[-1])


def test_a_line_goes_on_behind_a_line_separator_in_a_text(watched: str, tmp_path: Path) -> None:
    first, *_, last = watched.splitlines()[:-1]
    said = json.loads(last)
    said["provenance"]["bundle"] = "one\u2028two"
    text = f"{first}\n{json.dumps(said, ensure_ascii=False)}\n"
    found = read_subject(saved(tmp_path, text)).event
    assert found is not None
    assert found.provenance.bundle == "one\u2028two"


def test_an_analysis_is_taken_as_a_file_as_text_and_laid_out(analysed: str, tmp_path: Path) -> None:
    expected = json.loads(analysed)["events"][-1]
    laid_out = msgspec.json.format(analysed.encode(), indent=2).decode()
    for what in (saved(tmp_path, analysed), analysed, laid_out):
        found = read_subject(what).event
        assert found is not None
        assert json.loads(found.to_json()) == expected
    assert read_subject(saved(tmp_path, laid_out)).event is not None


def test_a_run_without_an_event_is_refused_in_one_line(tmp_path: Path) -> None:
    text = printed("run", "test://gradient?duration=1", "--json")
    with pytest.raises(
        ConfigError, match=r"printed\.jsonl: expected an event .* found none; if no event was .* edge-sdk explain PATH$"
    ):
        read_subject(saved(tmp_path, text))
    calm = printed("analyze", "test://gradient?duration=1", "--json")
    with pytest.raises(ConfigError, match=r"found none; "):
        read_subject(calm)


def test_an_event_of_another_make_says_what_is_wrong(watched: str, tmp_path: Path) -> None:
    event = json.loads(watched.splitlines()[0]) | {"schema": 2}
    with pytest.raises(ConfigError, match=r"found something else .*2 - at `\$\.schema`"):
        read_subject(saved(tmp_path, json.dumps(event)))


def test_an_event_of_a_later_release_is_asked_about_as_one_of_this(watched: str, analysed: str, tmp_path: Path) -> None:
    event, document = json.loads(watched.splitlines()[0]), json.loads(analysed)
    document["events"] = [event | {"weather": "rain", "time": event["time"] | {"leap": 1}}]
    document["weather"] = "rain"
    for text in (json.dumps(document["events"][0]), json.dumps(document)):
        found = read_subject(saved(tmp_path, text)).event
        assert found is not None
        assert json.loads(found.to_json()) == event


def test_an_event_s_recording_is_not_held_against_its_times(watched: str) -> None:
    """A recording has a clock of its own; without one the student's evidence goes into the answer."""
    event = msgspec.json.decode(watched.splitlines()[-2], type=Event)
    recording = EventClip(uri=CLIP.absolute().as_uri(), pre_s=1.0, post_s=1.0, gaps_s=(), sha256="0" * 64)
    recorded = msgspec.structs.replace(event, clip=recording)
    settings = ReasonerSettings(priority=0)
    for each, compared in ((event, True), (recorded, False)):
        found = explain(each.to_json(), tasks=["recognition"], settings=settings).answers["recognition"]
        assert found.with_student is compared
        assert (found.contradiction is not None) is compared


def test_a_clip_is_found_beside_its_event_on_another_machine(watched: str, tmp_path: Path) -> None:
    event = msgspec.json.decode(watched.splitlines()[-2], type=Event)
    clip, told = tmp_path / f"{event.id}.mp4", tmp_path / f"{event.id}.json"
    shutil.copy(CLIP, clip)
    digest = hashlib.sha256(clip.read_bytes()).hexdigest()
    made = EventClip(uri=f"file:///media/board/{clip.name}", pre_s=1.0, post_s=1.0, gaps_s=(), sha256=digest)
    told.write_text(msgspec.structs.replace(event, clip=made).to_json())
    assert read_subject(str(told)).clip == clip.as_uri()
    with clip.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(
        ConfigError, match=rf"{clip.name}: expected the clip .* SHA-256 {digest}, found one with .* copy"
    ):
        read_subject(str(told))
    clip.unlink()
    with pytest.raises(ConfigError, match=rf"expected its clip at /media/board/{clip.name}, or as .* found neither"):
        read_subject(str(told))


def test_a_clip_that_is_where_its_event_says_is_taken_from_there(watched: str, tmp_path: Path) -> None:
    event = msgspec.json.decode(watched.splitlines()[-2], type=Event)
    (tmp_path / CLIP.name).write_bytes(b"another of its name")
    made = EventClip(uri=CLIP.absolute().as_uri(), pre_s=1.0, post_s=1.0, gaps_s=(), sha256="0" * 64)
    assert read_subject(saved(tmp_path, msgspec.structs.replace(event, clip=made).to_json())).clip == made.uri
