"""Events that are saved again, in the order of their files, and not from another unit's pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from pushing import moving_camera, until
from saved_files import event_of, saved_before, told_in

from edge_sdk.capture import LiveSettings
from edge_sdk.errors import ConfigError
from edge_sdk.events import Event, by_hand
from edge_sdk.saving import SaveSettings, make_room
from edge_sdk.unit import Unit

PICTURE = np.random.default_rng(3).integers(60, 120, (48, 64, 3)).astype(np.uint8)


@contextmanager
def watching(kept_s: float = 20.0) -> Iterator[Unit]:
    with moving_camera(PICTURE) as (feed, _), Unit(feed, live=LiveSettings(pre_roll_s=kept_s)) as unit:
        yield unit


@pytest.mark.native
def test_what_is_saved_again_with_answers_does_not_lose_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ring holds the trigger still, and less of what came before it."""
    monkeypatch.setattr(by_hand, "POST_S", 0.5)
    settings = SaveSettings(pre_roll_s=4.0, post_roll_s=0.0)
    with watching(7.0) as unit:
        event = event_of(unit, 5.0, "closed")
        saved = unit.save(event, tmp_path, settings)
        data = (tmp_path / f"{event.id}.mp4").read_bytes()
        assert saved.clip is not None
        pre_s = saved.clip.pre_s
        until(lambda: unit.clip(event, 4.0).delivered_s < min(pre_s - 0.5, 3.5), 10.0)
        answered = msgspec.structs.replace(event, reasoning={})
        again = unit.save(answered, tmp_path, msgspec.structs.replace(settings, limit_mb=1.0))
        assert again == told_in(tmp_path, event) == msgspec.structs.replace(answered, clip=saved.clip)
        assert (tmp_path / f"{event.id}.mp4").read_bytes() == data
        # One that ends sooner, as an early one, gives way to what goes on to the end.
        early = msgspec.structs.replace(saved.clip, post_s=saved.clip.post_s - 0.55)
        (tmp_path / f"{event.id}.json").write_text(msgspec.structs.replace(event, clip=early).to_json())
        whole = unit.save(event, tmp_path, settings)
    assert whole.clip is not None
    assert 0 <= whole.clip.pre_s < pre_s - 0.4
    assert whole.clip.post_s == pytest.approx(saved.clip.post_s, abs=0.15)
    assert (tmp_path / f"{event.id}.mp4").read_bytes() != data


@pytest.mark.native
def test_an_event_that_is_kept_as_it_was_makes_room_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_hand, "POST_S", 0.5)
    old = saved_before(tmp_path, 1, 0.5)
    with watching(2.0) as unit:
        event = event_of(unit, 1.5, "closed")
        unit.save(event, tmp_path, SaveSettings(pre_roll_s=1.0, post_roll_s=0.0))
        until(lambda: unit.clip(event, 1.0).delivered_s < 0, 10.0)
        unit.save(event, tmp_path, SaveSettings(pre_roll_s=1.0, post_roll_s=0.0, limit_mb=0.1))
    assert {path.stem for path in tmp_path.iterdir()} == {event.id} != {old}


@pytest.mark.native
def test_a_memory_card_tells_the_order_of_events_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT keeps times of files to even seconds: several events a second, of a device whose clock was set back."""
    monkeypatch.setattr(by_hand, "POST_S", 0.5)
    before, ahead_s = saved_before(tmp_path, 0, 0.0), time.time() + 1e8
    os.utime(tmp_path / f"{before}.json", (ahead_s, ahead_s))
    names = [f"{number:032x}" for number in (9, 4, 7, 1, 8, 2)]

    def as_fat_keeps_them() -> None:
        for path in tmp_path.glob("*.json"):
            even_ns = path.stat().st_mtime_ns // 2_000_000_000 * 2_000_000_000
            os.utime(path, ns=(even_ns, even_ns))

    as_fat_keeps_them()
    with watching() as unit:
        event = event_of(unit, 0.5, "closed")
        for name in names:
            unit.save(msgspec.structs.replace(event, id=name), tmp_path, SaveSettings(pre_roll_s=0.5, post_roll_s=0.0))
            as_fat_keeps_them()
    (one,) = {path.stat().st_size for path in tmp_path.glob("*.mp4") if path.stem != before}
    size = one + max(path.stat().st_size for path in tmp_path.glob("*.json"))
    for left in range(len(names), 0, -1):
        make_room(tmp_path, left * size, names[-1])
        assert {path.stem for path in tmp_path.glob("*.json")} == set(names[-left:])


@pytest.mark.native
def test_an_event_of_an_earlier_unit_gets_no_pictures_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both watch one camera, and in both the event lies at the same second or so."""
    monkeypatch.setattr(by_hand, "POST_S", 0.5)
    settings = SaveSettings(pre_roll_s=0.5, post_roll_s=0.0)
    with moving_camera(PICTURE) as (feed, _):
        with Unit(feed, live=LiveSettings(pre_roll_s=20.0)) as unit:
            earlier = event_of(unit, 1.0, "confirmed")
        with Unit(feed, live=LiveSettings(pre_roll_s=20.0)) as unit:
            with pytest.raises(ConfigError, match=r"whose timeline has not begun, found .*: another unit or run"):
                unit.clip(earlier, 0.5)
            own = event_of(unit, 1.0, "closed")
            zero = own.time.zero
            assert zero is not None
            first_s = zero.monotonic_s
            says = rf"push://front: .* began at {first_s:.3f} of .*, found {earlier.id}.*`edge-sdk explain ID.json`"
            with pytest.raises(ConfigError, match=says):
                unit.clip(earlier, 0.5)
            with pytest.raises(ConfigError, match=says):
                unit.save(Event.from_json(earlier.to_json()), tmp_path / "none", settings)
            assert not (tmp_path / "none").exists()
            rounded = msgspec.structs.replace(
                own.time, zero=msgspec.structs.replace(zero, monotonic_s=round(first_s, 3))
            )
            for same in (Event.from_json(own.to_json()), msgspec.structs.replace(own, time=rounded)):
                saved = unit.save(same, tmp_path, settings)
                assert saved.clip is not None
