"""What the documents tell people to type and to read is there: verbs, options, modules, files."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

import edge_sdk
from edge_sdk.analysis import Analysis
from edge_sdk.bundle import default_bundle
from edge_sdk.capture import SourceChange
from edge_sdk.cli import main  # noqa: F401 - importing it gives the app its verbs
from edge_sdk.cli.app import app
from edge_sdk.cli.explain import Explained
from edge_sdk.clips import read_labels
from edge_sdk.evaluation.tasks import read_annotations
from edge_sdk.events import Event
from edge_sdk.unit import Unit

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
VERBS: Any = typer.main.get_command(app)


def text_of(document: Path) -> str:
    """The document with lines that a backslash continues put together."""
    return document.read_text(encoding="utf-8").replace("\\\n", " ")


# Any: a command of click, which typer may bring as a package of its own.
def verb(words: list[str]) -> tuple[Any, list[str]]:
    """The command that `words` begin with, and the words that are left."""
    command, left = VERBS, list(words)
    while left and (found := getattr(command, "commands", {}).get(left[0].rstrip(".,;:"))):
        command, left = found, left[1:]
    return command, left


# Any: as above.
def unknown_options(command: Any, words: list[str]) -> list[str]:
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
    asked = [name for word in words for name in re.findall(r"^--[a-z][a-z0-9-]*", word)]
    return [name for name in asked if name not in known]


def test_no_help_holds_what_the_terminal_takes_for_markup() -> None:
    pending, told = [VERBS], []
    while pending:
        command = pending.pop()
        pending.extend(getattr(command, "commands", {}).values())
        told += [command.help or "", *(getattr(each, "help", None) or "" for each in command.params)]
    assert len(told) > 100
    assert not [text for text in told if re.search(r"\[[a-z#/@]", text)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_verb_and_option_exists(document: Path) -> None:
    told = re.findall(r"edge-sdk ([a-z][^`\n|#]*)", text_of(document))
    for line in told:
        command, left = verb(line.split())
        assert command is not VERBS, f"no verb in: edge-sdk {line}"
        assert not unknown_options(command, left), f"edge-sdk {line}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_module_and_linked_file_exists(document: Path) -> None:
    text = text_of(document)
    for module in re.findall(r"python -m (edge_sdk[\w.]*\w)", text):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / link).exists(), link


def test_a_verb_or_option_that_is_not_there_would_be_seen() -> None:
    command, left = verb(["distil", "student", "OUT", "--labels", "--no-such-option"])
    assert command.name == "student"
    assert unknown_options(command, left) == ["--no-such-option"]
    assert verb(["compress", "OUT"]) == (VERBS, ["compress", "OUT"])


def test_the_label_table_of_the_page_is_one(tmp_path: Path) -> None:
    found = re.search(
        r"```\n(clip,view,.*?)```", (ROOT / "docs" / "finetune.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert found
    table = tmp_path / "labels.csv"
    table.write_text(found[1])
    for line in found[1].splitlines()[1:]:
        (tmp_path / line.partition(",")[0]).touch()
    clips = read_labels(table)
    assert [(clip.crash, clip.start_s, clip.end_s) for clip in clips] == [
        (True, 4.2, 6.0),
        (True, 1.1, None),
        (False, None, None),
    ]
    assert clips[0].group == clips[1].group


def code_of(page: str, language: str, containing: str) -> str:
    """The one block of code of a page that has `containing` in it."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)
    (found,) = (block for block in blocks if containing in block)
    return str(found)


def test_the_event_of_the_page_is_what_the_demos_clip_gives() -> None:
    told = json.loads(code_of("live.md", "json", '"revision"'))
    with Unit(default_bundle() / "demo" / "clip.mp4") as unit:
        (event,) = unit.events({"closed"})
    found = json.loads(event.to_json())
    boundaries = [{key: list(value.values()) for key, value in each.pop("timeline").items()} for each in (told, found)]
    assert boundaries[0].keys() == boundaries[1].keys()
    for key, values in boundaries[0].items():
        assert values == pytest.approx(boundaries[1][key], abs=0.02)
    assert told.pop("score") == pytest.approx(found.pop("score"), abs=0.01)
    for each in (told, found):
        each["id"] = each["source"] = each["time"]["monotonic_s"] = ""
        for of_the_machine in ("runtime_version", "device"):  # popped, as the page must have them all the same
            each["provenance"].pop(of_the_machine)
    assert told == found


def test_annotations_are_written_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code_of("evaluation.md", "python", "json.dump"), "evaluation.md", "exec"), {})
    read = read_annotations(tmp_path / "annotations.json").truths
    assert {task: sorted(rows) for task, rows in read.items() if rows} == {
        "recognition": ["van7-0412.mp4"],
        "crash_interval": ["van7-0412.mp4"],
    }


@pytest.mark.native
def test_pictures_are_pushed_as_the_page_says(capfd: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, Any] = {}
    exec(compile(code_of("live.md", "python", "feed.push"), "live.md", "exec"), scope)
    assert scope["feed"].pushed > 10
    assert scope["unit"].sources[0].state == "ended"
    assert capfd.readouterr().out == ""  # a grey picture that brightens is no crash


def test_a_unit_is_stopped_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes while an event is open, seconds before the clip's end: the event is closed all the same."""
    seen: list[Event | SourceChange] = []

    def heard(item: Event | SourceChange, *, flush: bool) -> None:
        assert flush
        seen.append(item)
        if item.state == "confirmed":
            os.kill(os.getpid(), signal.SIGTERM)

    def whole() -> float:
        with Unit(default_bundle() / "demo" / "clip.mp4") as unit:
            return [frame.time_s for frame in unit.frames()][-1]

    monkeypatch.setattr(edge_sdk, "open", lambda _: Unit(default_bundle() / "demo" / "clip.mp4"))
    scope: dict[str, Any] = {"print": heard}
    before = signal.getsignal(signal.SIGTERM)
    try:
        exec(compile(code_of("live.md", "python", "signal.SIGTERM"), "live.md", "exec"), scope)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [item.state for item in seen] == ["provisional", "confirmed", "closed"]
    assert scope["unit"].stats.delivered < whole() * 10 - 10
    assert list(scope["unit"].frames()) == []


def test_the_readme_s_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert re.fullmatch(r"confirmed \d\.\d\d crash at \d\.\d\d s \(.*\)", capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize(("verb", "document"), [("analyze", Analysis), ("explain", Explained)])
def test_the_page_names_every_key_of_a_document(verb: str, document: type[msgspec.Struct]) -> None:
    text = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
    _, _, table = text.partition(f"| key of `{verb}` |")
    rows = [line.split("|")[1] for line in table.split("\n\n")[0].splitlines()[2:]]
    told = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert told | {"schema"} == set(document.__struct_fields__)
