"""Questions while cameras are watched: asked from another thread, and with another event in the way."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from demo_pictures import decoded, playing
from pushing import until

import edge_sdk
from edge_sdk.bundle import Bundle
from edge_sdk.capture import Feed
from edge_sdk.events import Event
from edge_sdk.explaining import Piece, ReasonerSettings, ReasoningReport, Reply
from edge_sdk.explaining.watching import QUEUE_S
from edge_sdk.tasks import TASK_IDS
from edge_sdk.unit import Unit

PAGE = Path(__file__).parents[2] / "docs" / "reasoning.md"
RATE_HZ = 10
STILL = 80


@pytest.mark.native
def test_a_unit_goes_on_watching_while_another_thread_asks(asking: Bundle) -> None:
    """The crash, and then a still picture: new ones are scored all the while that answers take."""
    crash = decoded(RATE_HZ)
    pictures = np.concatenate([crash, np.repeat(crash[-1:], STILL, axis=0)])
    feed = Feed("rgb", width=400, height=240, rate_hz=RATE_HZ)
    said: list[Piece | Reply | ReasoningReport | Event] = []
    took_s: list[float] = []

    def ask(unit: Unit, event: Event) -> None:
        begun_s = time.monotonic()
        for _ in range(8):
            said.extend(unit.explain(event))
        took_s.append(time.monotonic() - begun_s)

    asker: threading.Thread | None = None
    scored = 0
    with (
        Unit(feed, asking, reasoning=ReasonerSettings(priority=0)) as unit,
        playing(feed, pictures, RATE_HZ),
    ):
        for step in unit.steps():
            closed = [event for event in step.events if event.state == "closed"]
            if asker is None and closed:
                asker = threading.Thread(target=ask, args=(unit, closed[0]))
                asker.start()
            elif asker is not None and asker.is_alive():
                scored += not step.frame.repeated
            elif asker is not None:
                unit.stop()
        assert asker is not None, "no event was closed"
        asker.join()
    whole = said[-1]
    assert isinstance(whole, Event)
    assert set(whole.reasoning or {}) == set(TASK_IDS)
    assert took_s[0] > 3 / RATE_HZ, "the answers came too soon to tell"
    # On a busy machine the pictures end before the answers do.
    assert scored >= 0.5 * (min(took_s[0] * RATE_HZ, STILL) - 1)


@pytest.mark.native
def test_who_asks_has_the_reasoner_though_another_event_is_followed(asking: Bundle) -> None:
    feed = Feed("rgb", width=400, height=240, rate_hz=RATE_HZ)
    with (
        Unit(feed, asking, reasoning=ReasonerSettings(priority=0)) as unit,
        playing(feed, decoded(RATE_HZ), RATE_HZ),
    ):
        event = next(iter(unit.events({"closed"})))
        explainer, feeder = unit._explainer, unit.streams[0].feeder
        assert explainer is not None
        # The process has opened the bundle when this is answered: until then it would be busy for the other event.
        list(unit.explain(event, ["recognition"]))
        other = msgspec.structs.replace(event, id="other", state="provisional")
        explainer.notice(other, feeder)
        followed = explainer._following["other"]
        until(lambda: followed._pushed)
        begun_s = time.monotonic()
        whole = list(unit.explain(event, ["recognition"]))[-1]
        assert time.monotonic() - begun_s < QUEUE_S / 2
        assert isinstance(whole, Event)
        assert set(whole.reasoning or {}) == {"recognition"}
        # The other one has lost its start, and is answered from the frames that are kept.
        *_, report, later = unit.explain(other, ["recognition"])
    assert isinstance(report, ReasoningReport)
    assert report.frames > 20
    assert isinstance(later, Event)
    assert later.id == "other"


@pytest.mark.native
def test_the_example_of_the_page_answers(
    asking: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed = Feed("rgb", width=400, height=240, rate_hz=RATE_HZ)

    def watch(_: str, *, bundle: str, reasoning: ReasonerSettings) -> Unit:
        assert bundle == "B"
        return Unit(feed, asking, reasoning=reasoning)

    monkeypatch.setattr(edge_sdk, "open", watch)
    example = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert example
    names: dict[str, Any] = {}
    with playing(feed, decoded(RATE_HZ), RATE_HZ):
        exec(compile(example[1], str(PAGE), "exec"), names)
    told = capsys.readouterr().out
    assert {task for task in TASK_IDS if f" {task} " in told} == {"recognition", "cause"}, told
