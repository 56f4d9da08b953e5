"""The frames of a live event, from a real history to what the reasoner is given."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.bundle.manifest_language import VisionProfile
from edge_sdk.capture import FrameHistory, HistorySettings
from edge_sdk.errors import RuntimeFailure, SourceError
from edge_sdk.events import CrashTimeline
from edge_sdk.explaining import LiveClip
from edge_sdk.explaining.kept import KeptFrames
from edge_sdk.types import Estimate

PROFILE = VisionProfile(frames=12, rate_hz=10.0, width=28, height=28, graphs={})
# Foreseeable from 4.5 s at the earliest, so frames begin at 0.5 s of the source.
TIMELINE = CrashTimeline(pre_crash_start=Estimate(t=5.0, lo=4.5, hi=5.5))
FIRST_S = 1000.0


class Listener:
    """In the place of the reasoner's process: it notes what it is given. The process has tests of its own."""

    class Language:
        profiles = {"12f": PROFILE}  # noqa: RUF012

    language, profile = Language(), "12f"

    def __init__(self, *, busy: bool = False) -> None:
        self.busy = busy
        self.begun: list[Taken] = []

    def begin(self, *, source: tuple[int, int], wait_s: float, until_s: float | None) -> Taken:
        if self.busy and not wait_s:
            raise RuntimeFailure("the reasoner is busy")
        self.begun.append(Taken(source))
        return self.begun[-1]


class Taken:
    report = None

    def __init__(self, source: tuple[int, int]) -> None:
        self.source = source
        self.times_s: list[float] = []
        self.shown: list[int] = []
        self.asked: dict[str, object] = {}
        self.closed = False
        self.enough = threading.Event()

    def push(self, pixels: NDArray[np.uint8], time_s: float, *, until_s: float | None) -> bool:
        self.times_s.append(time_s)
        self.shown.append(int(pixels[0, 0, 0]))
        if len(self.shown) >= 5:
            self.enough.set()
        return True

    def check(self) -> None:
        """It lives."""

    def ask(self, tasks: Sequence[str], **told: object) -> Iterator[object]:
        self.asked = {"tasks": tasks, **told}
        return iter(())

    def close(self) -> None:
        self.closed = True


def history(frames: int, keep_s: float = 3.0) -> FrameHistory:
    kept = FrameHistory(HistorySettings(width=4, height=4, rate_hz=10.0, keep_s=keep_s))
    for number in range(frames):
        show(kept, number)
    return kept


def show(kept: FrameHistory, number: int) -> None:
    kept.push(np.full((4, 4, 3), number, np.uint8), FIRST_S + number / 10)


def live(reasoner: Listener, history: FrameHistory, timeline: CrashTimeline = TIMELINE) -> LiveClip:
    kept = KeptFrames(history, FIRST_S, timeline, PROFILE.frames)
    return LiveClip(reasoner, kept)  # type: ignore[arg-type]


def follow(clip: LiveClip) -> None:
    clip.kept.follow()
    clip.follow()


def ask(clip: LiveClip) -> None:
    list(clip.ask(["cause"], events=[], deadline_s=None, wait_s=1.0))


def test_frames_begin_before_the_event_and_end_with_the_profile() -> None:
    listener = Listener()
    ask(live(listener, history(30)))
    (request,) = listener.begun
    assert request.shown == list(range(5, 17))
    np.testing.assert_allclose(request.times_s, np.arange(12) / 10, atol=1e-9)
    # What the clip's clock says at the source's first frame.
    assert request.asked["zero_s"] == pytest.approx(-0.5)
    assert (request.source, request.closed) == ((4, 4), True)


def test_work_begins_at_once_and_goes_on_with_what_comes() -> None:
    kept, listener = history(10), Listener()
    clip = live(listener, kept)
    follow(clip)
    while not listener.begun:
        pass
    assert listener.begun[0].enough.wait(5)
    for number in range(10, 14):
        show(kept, number)
    ask(clip)
    (request,) = listener.begun
    assert request.shown == list(range(5, 14))


def test_frames_that_were_lost_on_the_way_are_skipped_not_repeated() -> None:
    kept, listener = history(10, keep_s=1.0), Listener()
    clip = live(listener, kept)
    follow(clip)
    while not listener.begun:
        pass
    assert listener.begun[0].enough.wait(5)
    clip.kept.stop()
    clip._stopped.set()
    for number in range(10, 40):
        show(kept, number)
    ask(clip)
    assert listener.begun[0].shown == [*range(5, 10), *range(30, 37)]


def test_a_deadline_counts_from_the_question() -> None:
    """What is left of it is for the answers; when nothing is, one frame is all that is looked at."""
    for deadline_s, shown in ((60.0, 12), (0.0, 1)):
        listener = Listener()
        clip = live(listener, history(30))
        list(clip.ask(["cause"], events=[], deadline_s=deadline_s, wait_s=1.0))
        (request,) = listener.begun
        assert len(request.shown) == shown
        left_s = request.asked["deadline_s"]
        assert isinstance(left_s, float)
        assert max(0.0, deadline_s - 30) <= left_s <= deadline_s
        assert not left_s or left_s < deadline_s


class Slow(Listener):
    """It opens when `opened` is set, and has room for a second picture when `room` is."""

    def __init__(self) -> None:
        super().__init__()
        self.opened, self.room = threading.Event(), threading.Event()

    def begin(self, *, source: tuple[int, int], wait_s: float, until_s: float | None) -> Taken:
        assert self.opened.wait(60)
        self.begun.append(Crowded(source, self.room))
        return self.begun[-1]


class Crowded(Taken):
    def __init__(self, source: tuple[int, int], room: threading.Event) -> None:
        super().__init__(source)
        self.room = room

    def push(self, pixels: NDArray[np.uint8], time_s: float, *, until_s: float | None) -> bool:
        assert not self.shown or self.room.wait(60)
        return super().push(pixels, time_s, until_s=until_s)


def test_a_deadline_is_kept_by_what_follows_a_reasoner_that_opens_or_works_for_longer() -> None:
    slow = Slow()
    clip = live(slow, history(30))
    follow(clip)
    with pytest.raises(RuntimeFailure, match="not ready before the deadline; ask again later"):
        list(clip.ask(["cause"], events=[], deadline_s=0.1, wait_s=1.0))
    slow.opened.set()
    assert clip._thread is not None
    clip._thread.join(60)
    assert all(request.closed for request in slow.begun), "its turn is given back"
    clip = live(slow, history(30))
    follow(clip)
    while not (slow.begun[1:] and slow.begun[1].shown):
        time.sleep(0.01)
    list(clip.ask(["cause"], events=[], deadline_s=0.1, wait_s=1.0))
    assert (len(slow.begun[1].shown), slow.begun[1].asked["deadline_s"]) == (1, 0.0)
    slow.room.set()


def test_a_busy_reasoner_is_asked_again_when_the_question_comes() -> None:
    listener = Listener(busy=True)
    clip = live(listener, history(30))
    follow(clip)
    ask(clip)
    assert listener.begun[0].shown == list(range(5, 17))


def test_a_dropped_event_lets_go_and_one_without_frames_says_so() -> None:
    listener = Listener()
    clip = live(listener, history(10))
    follow(clip)
    while not listener.begun:
        pass
    clip.drop()
    assert clip._thread is not None
    clip._thread.join(5)
    assert listener.begun[0].closed
    with pytest.raises(SourceError, match="the frames of this event are no longer kept"):
        ask(live(listener, history(0)))


@pytest.mark.parametrize("follows", [False, True])
def test_an_event_whose_frames_are_gone_is_not_answered_from_others(follows: bool) -> None:
    """The crash began at 5.5 s at the latest; of 10 s the last three are kept."""
    listener = Listener()
    clip = live(listener, history(100))
    if follows:
        follow(clip)
    with pytest.raises(SourceError, match=r"no longer kept; ask sooner, or keep more seconds of frames"):
        ask(clip)
    assert all(request.closed and not request.shown for request in listener.begun)
    assert follows or not listener.begun, "no turn is waited for"


def test_an_event_of_which_the_beginning_is_gone_is_answered_from_the_rest() -> None:
    listener = Listener()
    ask(live(listener, history(85)))
    assert listener.begun[0].shown == list(range(55, 67))


def test_frames_are_kept_while_the_reasoner_opens_and_while_it_is_slow() -> None:
    """Of three seconds one is kept by the source: what came in time is shown all the same."""
    slow, kept = Slow(), history(10, keep_s=1.0)
    clip = live(slow, kept)
    follow(clip)
    for number in range(10, 30):
        until(partial(came, clip, number - 1))
        show(kept, number)
    slow.opened.set()
    slow.room.set()
    ask(clip)
    assert slow.begun[0].shown == list(range(5, 17))


def test_frames_that_are_asked_about_are_there_when_the_turn_comes() -> None:
    kept = history(30)

    class Late(Listener):
        def begin(self, *, source: tuple[int, int], wait_s: float, until_s: float | None) -> Taken:
            for number in range(30, 90):
                show(kept, number)
            return super().begin(source=source, wait_s=wait_s, until_s=until_s)

    late = Late()
    ask(live(late, kept))
    assert late.begun[0].shown == list(range(5, 17))


@pytest.mark.parametrize(("crash_s", "first"), [(5.6, 48), (7.0, 62)])
def test_the_crash_is_among_the_frames_however_long_after_its_first_sign(crash_s: float, first: int) -> None:
    """Twelve frames last 1.1 s, of which a quarter shows what comes of it."""
    crash = Estimate(t=crash_s, lo=crash_s - 0.1, hi=crash_s)
    seen = CrashTimeline(pre_crash_start=TIMELINE.pre_crash_start, crash_start=crash)
    listener, kept = Listener(), history(100, keep_s=10.0)
    begun = live(listener, kept)
    assert begun.kept.shows(TIMELINE)
    assert not begun.kept.shows(seen)
    whole = live(listener, kept, seen)
    assert whole.kept.shows(seen)
    ask(whole)
    assert listener.begun[0].shown == list(range(first, first + 12))
    assert listener.begun[0].shown[-1] / 10 >= crash_s + 0.2


@pytest.mark.parametrize(("later_s", "kept"), [(0.1, True), (0.5, False)])
def test_a_start_that_is_told_more_exactly_costs_no_new_beginning(later_s: float, kept: bool) -> None:
    """Of frames that last 1.1 s a crash that is a tenth later than was thought still shows."""
    crash = Estimate(t=6.0, lo=5.9, hi=6.0)
    clip = live(Listener(), history(100, keep_s=10.0), CrashTimeline(crash_start=crash))
    refined = Estimate(t=crash.t + later_s, lo=crash.lo + later_s, hi=crash.hi + later_s)
    assert clip.kept.shows(CrashTimeline(crash_start=refined)) is kept


def came(clip: LiveClip, number: int) -> bool:
    frames = clip.kept.frames
    return clip.kept.full or bool(frames and frames[-1].number == number)


def until(ready: Callable[[], object]) -> None:
    end_s = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < end_s
        time.sleep(0.005)
