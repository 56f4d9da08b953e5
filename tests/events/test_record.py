"""The event record as JSON: what a later release has added is passed over, what means something else is refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from watched_events import event

from edge_sdk.errors import ConfigError
from edge_sdk.events import Answer, DeviceState, Event, EventClip, EventTime
from edge_sdk.types import CaptureTime

ANSWER = Answer(
    form="time",
    value=1.5,
    text="at 1.5 s",
    probability=0.5,
    calibrated=True,
    lo=1.0,
    hi=2.0,
    tokens=3,
    grid="364x196",
    abstain=False,
    contradiction=None,
    model="m 1",
    prompt_sha256="0" * 64,
)
WHOLE = msgspec.structs.replace(
    event("a", "closed"),
    clip=EventClip(uri="file:///clip.mp4", pre_s=1.0, post_s=2.0, gaps_s=((0.1, 0.2),), sha256="0" * 64),
    reasoning={"pre_crash_time": ANSWER},
    latency_ms={"student": 1.5},
    device=DeviceState(temperature_c=50.0),
    time=EventTime(monotonic_s=7.0, zero=CaptureTime(monotonic_s=2.0, utc_s=1.7e9, source="sender")),
)


# Any: JSON of any depth.
def with_more(document: Any, path: tuple[str, ...]) -> str:
    """`document` with a key that nobody knows in what `path` leads to."""
    changed = json.loads(document)
    place = changed
    for key in path:
        place = place[key]
    place["since_next_year"] = {"of": [1, None]}
    return json.dumps(changed)


def test_an_event_is_read_as_it_was_written() -> None:
    assert Event.from_json(WHOLE.to_json()) == WHOLE
    assert Event.from_json(WHOLE.to_json().encode()) == WHOLE
    assert set(json.loads(WHOLE.to_json())) == set(Event.__struct_fields__)


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("timeline",),
        ("timeline", "crash_start"),
        ("time",),
        ("time", "zero"),
        ("clip",),
        ("reasoning", "pre_crash_time"),
        ("device",),
        ("provenance",),
    ],
)
def test_a_key_of_a_later_release_is_passed_over(path: tuple[str, ...]) -> None:
    assert Event.from_json(with_more(WHOLE.to_json(), path)) == WHOLE


def test_an_event_of_an_earlier_release_lacks_what_has_come_since() -> None:
    document = json.loads(WHOLE.to_json())
    del document["time"]["zero"]
    oldest = {"bundle": "b", "bundle_sha256": "0" * 64, "runtime": "ort", "config_sha256": "0" * 64}
    document["provenance"] = oldest
    found = Event.from_json(json.dumps(document))
    assert found.time == EventTime(monotonic_s=7.0)
    later = ("runtime_version", "engine_sha256", "operating_point", "sdk", "device")
    assert json.loads(found.to_json())["provenance"] == oldest | dict.fromkeys(later)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "truncated"),
        ("{}", "missing required field `id`"),
        (WHOLE.to_json().replace('"schema":1', '"schema":2'), r"value 2 - at `\$\.schema`"),
        (WHOLE.to_json().replace('"closed"', '"Closed"'), r"'Closed' - at `\$\.state`"),
        (b"\xff", "malformed"),
    ],
)
def test_anything_else_is_refused_with_what_is_wrong(text: str | bytes, why: str) -> None:
    with pytest.raises(ConfigError, match=f"expected an event of schema 1 as JSON, found .*{why}.*; give it as"):
        Event.from_json(text)


def test_an_instant_of_the_timeline_counts_from_the_first_picture() -> None:
    assert WHOLE.when(2.5) == CaptureTime(monotonic_s=4.5, utc_s=1.7e9 + 2.5, source="sender")
    unknown = msgspec.structs.replace(WHOLE, time=EventTime(monotonic_s=7.0))
    assert unknown.when(2.5) is None
