"""What an event says of who made it: enough to find that again, and nothing of whose device it was."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

import edge_sdk
from edge_sdk.analysis import analyze
from edge_sdk.bundle import default_bundle
from edge_sdk.hardware import Machine, identify
from edge_sdk.unit import Unit

CLIP = default_bundle() / "demo" / "clip.mp4"
MODEL = "Some Edge Developer Kit"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Machine]:
    """Makes units read a board's files in place of this machine's; what each reading found."""
    for name, text in {
        "proc/device-tree/model": f"{MODEL}\0",
        "proc/device-tree/serial-number": "SERIAL-1420",
        "sys/class/dmi/id/product_serial": "SERIAL-1421",
        "sys/class/dmi/id/product_uuid": "SERIAL-1422",
        "etc/hostname": "SERIAL-1423",
        "etc/machine-id": "SERIAL-1424",
        "proc/sys/kernel/hostname": "SERIAL-1425",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found: list[Machine] = []

    def of_the_folder() -> Machine:
        found.append(identify(tmp_path))
        return found[-1]

    monkeypatch.setattr("edge_sdk.stream.identify", of_the_folder)
    return found


def test_an_event_says_what_made_it(asked: list[Machine]) -> None:
    with Unit(CLIP) as unit:
        (event,) = unit.events({"closed"})
    made = event.provenance
    assert (made.runtime, made.runtime_version, made.engine_sha256) == ("ort", version("onnxruntime"), None)
    assert (made.sdk, made.device) == (edge_sdk.__version__, MODEL)
    assert "SERIAL" not in event.to_json()


def test_an_analysis_says_the_same(asked: list[Machine]) -> None:
    with Unit(CLIP, operating_point="balanced") as unit:
        (event,) = unit.events({"closed"})
    (reported,) = analyze(CLIP).analysis.events
    assert reported.provenance == event.provenance


def test_it_is_asked_once_for_all_sources_and_events(asked: list[Machine]) -> None:
    with Unit([CLIP, CLIP]) as unit:
        events = list(unit.events())
    assert len({event.id for event in events}) == 2
    assert len({id(event.provenance) for event in events}) == len(asked) == 1


def test_what_is_not_known_is_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine whose firmware names nothing, by a runtime without a package; it sees no crash, so one by hand."""
    monkeypatch.setattr("edge_sdk.stream.identify", lambda: identify(tmp_path))
    with Unit(CLIP, runtime="null") as unit:
        next(unit.steps())
        unit.trigger()
        event = next(unit.events())
    told = json.loads(event.to_json())["provenance"]
    nothing = {"runtime_version", "engine_sha256", "device"}
    assert {key for key, value in told.items() if value is None} == nothing
