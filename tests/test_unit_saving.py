"""Events of a unit on disk: the clip and its JSON, what a folder may hold, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from demo_pictures import CLIP
from pushing import moving_camera, scored, stopping, until
from saved_files import event_of, pictures_in, saved_before, shown_s

import edge_sdk
from edge_sdk.capture import Feed, LiveSettings
from edge_sdk.errors import ConfigError
from edge_sdk.events import Event, by_hand
from edge_sdk.saving import SaveSettings, make_room, shortfall
from edge_sdk.unit import Unit

RATE_HZ = 10
PICTURE = np.random.default_rng(3).integers(60, 120, (48, 64, 3)).astype(np.uint8)


@pytest.fixture
def camera() -> Iterator[tuple[Feed, threading.Event]]:
    with moving_camera(PICTURE) as found:
        yield found


def closed_event(unit: Unit, before_s: float) -> Event:
    return event_of(unit, before_s, "closed")


@pytest.mark.native
def test_an_event_is_a_file_that_plays_and_its_json(
    camera: tuple[Feed, threading.Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_hand, "POST_S", 1.0)
    folder = tmp_path / "events"
    with Unit(camera[0], live=LiveSettings(pre_roll_s=20.0)) as unit:
        event = closed_event(unit, 3.5)
        saved = unit.save(event, folder, SaveSettings(pre_roll_s=2.0, post_roll_s=1.5))
        clip = unit.clip(event, 2.0)
    path = folder / f"{event.id}.mp4"
    assert sorted(folder.iterdir()) == [folder / f"{event.id}.json", path]
    assert saved.clip is not None
    assert saved == msgspec.structs.replace(event, clip=saved.clip)
    assert Event.from_json((folder / f"{event.id}.json").read_text()) == saved
    assert saved.clip.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (saved.clip.asked_pre_s, shortfall(saved.clip)) == (2.0, "")
    assert 2.0 <= saved.clip.pre_s < 3.2, "from the key picture before"
    assert event.triggered_s is not None
    triggered = event.when(event.triggered_s)
    assert triggered is not None
    ended_s = event.time.monotonic_s - triggered.monotonic_s
    assert saved.clip.post_s == pytest.approx(ended_s + 1.5, abs=0.35), "to its end, and the post-roll"
    assert saved.clip.start_s == pytest.approx(event.triggered_s - saved.clip.pre_s, abs=0.002)
    shown, stamps = shown_s(path), [unit_.captured_s for unit_ in clip.units]
    assert shown == pytest.approx(np.array(stamps[: len(shown)]) - stamps[0], abs=0.00002)
    assert shown[-1] == pytest.approx(saved.clip.pre_s + saved.clip.post_s, abs=0.002)
    assert len(pictures_in(path)) == len(shown) > 3.5 * RATE_HZ


@pytest.mark.native
def test_no_post_roll_is_waited_for_when_the_source_is_silent_or_the_unit_stopped(
    camera: tuple[Feed, threading.Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_hand, "POST_S", 0.5)
    long = SaveSettings(pre_roll_s=1.0, post_roll_s=60.0)
    with Unit(camera[0], live=LiveSettings(pre_roll_s=20.0, stall_timeout_s=2.0)) as unit:
        event = closed_event(unit, 1.0)
        before_s = time.monotonic()
        threading.Timer(0.5, camera[1].set).start()
        silent = unit.save(event, tmp_path / "silent", long)
        assert time.monotonic() - before_s < 5.0
        unit.stop()
        stopped = unit.save(event, tmp_path / "stopped", long)
    assert silent.clip is not None
    assert 0.5 < silent.clip.post_s < 2.5
    assert stopped.clip is not None
    assert stopped.clip.sha256 == silent.clip.sha256


@pytest.mark.native
def test_who_presses_after_the_camera_has_died_has_the_pictures_before(
    camera: tuple[Feed, threading.Event], tmp_path: Path
) -> None:
    """As after a crash that cuts the camera's cable: the ring has them while the source is down."""
    settings = SaveSettings(pre_roll_s=1.5, post_roll_s=60.0)
    names: list[str] = []

    def die() -> None:
        with stopping(unit):
            scored(unit)
            time.sleep(2.5)
        camera[1].set()

    with Unit(camera[0], live=LiveSettings(pre_roll_s=20.0, stall_timeout_s=1.0)) as unit:
        threading.Thread(target=die).start()
        for item in unit.watch():
            if isinstance(item, Event) and item.state == "closed":
                saved = unit.save(item, tmp_path, settings)
            elif not isinstance(item, Event) and item.state == "stalled":
                names.append(unit.trigger())
            elif not isinstance(item, Event) and item.state == "connecting" and names:
                unit.stop()
    assert [saved.id] == names
    assert saved.clip is not None
    assert (saved.clip.asked_pre_s, shortfall(saved.clip)) == (1.5, "")
    assert saved.clip.pre_s >= 1.5
    assert 0.0 <= saved.clip.post_s < 0.5, "its trigger is the last picture"
    shown = shown_s(tmp_path / f"{saved.id}.mp4")
    assert shown[-1] == pytest.approx(saved.clip.pre_s + saved.clip.post_s, abs=0.002)
    assert len(pictures_in(tmp_path / f"{saved.id}.mp4")) == len(shown) > 1.2 * RATE_HZ


@pytest.mark.native
def test_an_event_that_is_longer_than_the_ring_is_cut_and_says_so(
    camera: tuple[Feed, threading.Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_hand, "POST_S", 4.0)
    with Unit(camera[0], live=LiveSettings(pre_roll_s=1.0)) as unit:
        saved = unit.save(closed_event(unit, 0.5), tmp_path, SaveSettings(pre_roll_s=0.5, post_roll_s=0.0))
    assert saved.clip is not None
    assert -4.2 < saved.clip.pre_s < -1.5
    assert f"begins {-saved.clip.pre_s:.1f} s after the crash or trigger in place of 0.5 s before" in shortfall(
        saved.clip
    )
    shown = shown_s(tmp_path / f"{saved.id}.mp4")
    assert shown[-1] == pytest.approx(saved.clip.pre_s + saved.clip.post_s, abs=0.002)


@pytest.mark.native
def test_what_nothing_was_kept_of_has_its_json_alone(
    camera: tuple[Feed, threading.Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_hand, "POST_S", 0.5)
    with Unit(camera[0], live=LiveSettings(pre_roll_s=5.0, ring_limit_mb=0.0002)) as unit:
        event = closed_event(unit, 0.5)
        assert unit.save(event, tmp_path, SaveSettings(post_roll_s=0.0)) == event
    assert [path.name for path in tmp_path.iterdir()] == [f"{event.id}.json"]
    assert shortfall(None) == "no picture of that time was kept"


def test_what_cannot_be_saved_is_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with Unit(CLIP) as unit:
        events = list(unit.events())
        with pytest.raises(ConfigError, match=r"clip\.mp4 is a file, and units are kept only for live sources"):
            unit.save(events[-1], tmp_path / "folder")
        for state in ("provisional", "rejected"):
            other = msgspec.structs.replace(events[0], state=state)
            with pytest.raises(ConfigError, match=rf"confirmed, refined or closed, found .*, which is {state}; save"):
                unit.save(other, tmp_path)
        with pytest.raises(ConfigError, match=r"32 hexadecimal digits, found '\.\./elsewhere'; save"):
            unit.save(msgspec.structs.replace(events[-1], id="../elsewhere"), tmp_path)
        with pytest.raises(ConfigError, match="cannot be a folder"):
            unit.save(events[-1], file)
    assert list(tmp_path.iterdir()) == [file]
    for wrong in ({"pre_roll_s": -1.0}, {"post_roll_s": float("nan")}, {"limit_mb": 0.0}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} must be"):
            SaveSettings(**wrong)


def test_the_oldest_events_make_room_and_nothing_else_does(tmp_path: Path) -> None:
    names = [saved_before(tmp_path, number, 1.0, ".mkv" if number == 1 else ".mp4") for number in range(4)]
    others = {"1" * 32 + ".mp4": b"a clip without JSON", "notes.json": b"{}"}
    # It has the name of an event, and is none; its size is nobody's business.
    others["2" * 32 + ".json"] = b'{"of": "others"}' + b" " * 3_000_000
    for name, data in others.items():
        (tmp_path / name).write_bytes(data)
        os.utime(tmp_path / name, (1.0, 1.0))
    make_room(tmp_path, 4.1e6, names[3])
    assert len(list(tmp_path.iterdir())) == 8 + len(others)
    make_room(tmp_path, 2.1e6, names[3])
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"{name}{suffix}" for name in names[2:] for suffix in (".mp4", ".json")} | set(others)
    make_room(tmp_path, 0.1e6, names[2])
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"{names[2]}.mp4", f"{names[2]}.json"} | set(others), "never the newest, whatever its size"


def test_what_cannot_be_removed_costs_the_next_ones_and_not_the_new_clip(tmp_path: Path) -> None:
    names = [saved_before(tmp_path, number, 1.0) for number in range(4)]
    (tmp_path / f"{names[0]}.mkv").mkdir()
    make_room(tmp_path, 2.1e6, names[3])
    assert {path.stem for path in tmp_path.glob("*.json")} == {names[0], names[3]}


@pytest.mark.native
def test_a_folder_keeps_to_its_limit_also_when_the_clock_was_set_back(
    camera: tuple[Feed, threading.Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_hand, "POST_S", 0.5)
    oldest, older = (saved_before(tmp_path, number, 0.6) for number in range(2))
    ahead_s = time.time() + 1e8
    for number, name in enumerate((oldest, older)):
        os.utime(tmp_path / f"{name}.json", (ahead_s + number, ahead_s + number))
    settings = SaveSettings(pre_roll_s=1.0, post_roll_s=0.0, limit_mb=1.0)
    with Unit(camera[0], live=LiveSettings(pre_roll_s=20.0)) as unit:
        event = closed_event(unit, 1.0)
        saved = unit.save(event, tmp_path, settings)
        assert saved.clip is not None
        names = {path.stem for path in tmp_path.iterdir()}
        assert names == {older, event.id}
        times = [(tmp_path / f"{name}.json").stat().st_mtime for name in (older, event.id)]
        assert times[1] >= times[0] > time.time()
        unit.save(event, tmp_path, msgspec.structs.replace(settings, limit_mb=0.001))
    assert {path.stem for path in tmp_path.iterdir()} == {event.id}
    assert json.loads((tmp_path / f"{event.id}.json").read_text())["clip"]["sha256"] == saved.clip.sha256


@pytest.mark.native
def test_the_program_of_the_page_saves_what_it_sees(
    camera: tuple[Feed, threading.Event],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is stopped a moment after the event was closed, which ends the post-roll."""
    page = (Path(__file__).parents[1] / "docs" / "live.md").read_text(encoding="utf-8")
    section = page.partition("## An event as a file\n")[2].partition("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    monkeypatch.setattr(by_hand, "POST_S", 0.5)
    monkeypatch.chdir(tmp_path)
    units: list[Unit] = []

    def watch(_: str, **settings: Any) -> Unit:
        units.append(Unit(camera[0], **settings))
        return units[0]

    def press() -> None:
        until(lambda: units, 30.0)
        with stopping(units[0]):
            scored(units[0])
            units[0].trigger()
            time.sleep(1.5)
        units[0].stop()

    monkeypatch.setattr(edge_sdk, "open", watch)
    presser = threading.Thread(target=press)
    presser.start()
    exec(compile(example, "docs/live.md", "exec"), {})
    presser.join(timeout=5)
    (file,) = (tmp_path / "events").glob("*.mp4")
    assert Event.from_json(file.with_suffix(".json").read_bytes()).clip is not None
    assert capsys.readouterr().out.startswith(f"{file.stem} EventClip(uri='{file.as_uri()}'")
