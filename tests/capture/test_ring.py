"""The ring of encoded units: exact pre-roll, whole groups of pictures, gaps that are told, memory that is bounded."""

from __future__ import annotations

import gc
import itertools
import threading
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from edge_sdk.capture.player import EncodedUnit
from edge_sdk.capture.ring import Clip, GopRing

FRAME_S = 1 / 30
ROOMY_MB = 1000.0


def unit(at_s: float, key: bool = False, size: int = 100) -> EncodedUnit:
    return EncodedUnit(bytes(size), at_s, key)


def stream(
    from_s: float, to_s: float, gop: int = 30, frame_s: float = FRAME_S, size: int = 100
) -> Iterator[EncodedUnit]:
    for number in range(round((to_s - from_s) / frame_s)):
        yield unit(from_s + number * frame_s, key=number % gop == 0, size=size)


def ring_of(*streams: Iterator[EncodedUnit], keep_s: float = 10.0, limit_mb: float = ROOMY_MB) -> GopRing:
    ring = GopRing(keep_s, limit_mb)
    for unit_ in itertools.chain(*streams):
        ring.push(unit_)
    return ring


def test_a_clip_begins_with_the_key_unit_before_the_instant_and_ends_with_the_newest() -> None:
    ring = ring_of(stream(100.0, 106.0))
    clip = ring.clip(at_s=105.9, pre_roll_s=2.4)
    assert clip.units[0].key
    assert clip.start_s == clip.units[0].captured_s == pytest.approx(103.0)
    assert clip.end_s == clip.units[-1].captured_s == pytest.approx(106.0 - FRAME_S)
    assert (clip.asked_s, clip.gaps) == (2.4, ())
    assert clip.delivered_s == pytest.approx(2.9)
    assert ring.since(103.5) == list(clip.units)


def test_an_instant_on_a_key_unit_begins_with_it() -> None:
    units = list(stream(100.0, 106.0))
    ring = ring_of(iter(units))
    assert ring.since(units[60].captured_s) == units[60:]


def test_an_instant_before_the_ring_begins_with_the_oldest_unit() -> None:
    clip = ring_of(stream(100.0, 103.0)).clip(at_s=103.0, pre_roll_s=30.0)
    assert clip.start_s == 100.0
    assert (clip.asked_s, clip.delivered_s) == (30.0, 3.0)


def test_an_empty_ring() -> None:
    ring = GopRing(10.0, 1.0)
    ring.mark_gap()
    clip = ring.clip(at_s=50.0, pre_roll_s=5.0)
    assert clip == Clip(units=(), at_s=50.0, asked_s=5.0, start_s=50.0, end_s=50.0, gaps=())
    assert (ring.since(3.0), ring.memory_mb, ring.gaps, clip.delivered_s) == ([], 0.0, (), 0.0)


def test_units_before_the_first_key_are_dropped() -> None:
    ring = ring_of(iter([unit(1.0), unit(1.1), unit(1.2, key=True), unit(1.3)]))
    assert [each.captured_s for each in ring.since(0.0)] == [1.2, 1.3]
    assert ring.dropped == 2


@pytest.mark.parametrize("seed", range(100))
def test_pre_roll_delivered_is_at_least_that_asked(seed: int) -> None:
    """100 random GOP lengths from 0.2 to 10 s; asked at every unit once the ring is old enough."""
    random = np.random.default_rng(seed)
    gop_s = float(np.exp(random.uniform(np.log(0.2), np.log(10.0))))
    pre_roll_s = float(random.uniform(0.5, 10.0))
    gop = max(1, round(gop_s / FRAME_S))
    ring = GopRing(keep_s=pre_roll_s, limit_mb=ROOMY_MB)
    for number, each in enumerate(stream(100.0, 100.0 + 3 * gop_s + pre_roll_s, gop)):
        ring.push(each)
        if number % 7 == 0 and each.captured_s >= 100.0 + pre_roll_s:
            clip = ring.clip(at_s=each.captured_s, pre_roll_s=pre_roll_s)
            assert clip.units[0].key
            assert pre_roll_s <= clip.delivered_s < pre_roll_s + (gop + 1) * FRAME_S
            assert clip.units[-1] is each
            assert np.diff([unit_.captured_s for unit_ in clip.units]) == pytest.approx(FRAME_S)


def test_old_groups_leave_whole() -> None:
    ring = ring_of(stream(0.0, 100.0, gop=60), keep_s=5.0)
    kept = ring.since(0.0)
    assert kept[0].key
    assert len(kept) % 60 == 0
    assert 5.0 <= kept[-1].captured_s - kept[0].captured_s < 7.0


def test_pictures_that_are_reordered() -> None:
    """B-pictures arrive after the picture they precede, and leading ones after their key."""
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11]
    keys = {0, 6, 12}
    units = [unit(10.0 + place * FRAME_S, key=place in keys) for place in order]
    ring = ring_of(iter(units))
    clip = ring.clip(at_s=10.0 + 12 * FRAME_S, pre_roll_s=5.5 * FRAME_S)
    assert clip.units == tuple(units[4:])
    assert clip.end_s == pytest.approx(10.0 + 12 * FRAME_S)
    assert ring.gaps == ()


def test_a_pause_is_a_gap() -> None:
    ring = ring_of(stream(100.0, 103.0), stream(104.6, 106.0))
    (gap,) = ring.gaps
    assert gap == pytest.approx((103.0 - FRAME_S, 104.6))
    assert ring.clip(at_s=106.0, pre_roll_s=1.2).gaps == ()
    assert ring.clip(at_s=106.0, pre_roll_s=4.0).gaps == (gap,)


def test_a_short_pause_is_none() -> None:
    assert ring_of(stream(100.0, 103.0), stream(103.9, 106.0)).gaps == ()


def test_a_slow_camera_has_no_gaps_until_it_skips_pictures() -> None:
    ring = ring_of(stream(100.0, 120.0, gop=1, frame_s=2.0), keep_s=60.0)
    assert ring.gaps == ()
    ring.push(unit(126.0, key=True))
    assert ring.gaps == ((118.0, 126.0),)


def test_a_pause_within_a_group_does_not_hide_its_key() -> None:
    """What follows the pause cannot be decoded without what came before it."""
    ring = ring_of(iter([unit(1.0, key=True), unit(1.1), unit(1.2), unit(4.0), unit(4.1)]))
    clip = ring.clip(at_s=4.1, pre_roll_s=0.5)
    assert clip.start_s == 1.0
    assert clip.gaps == ((1.2, 4.0),)


def test_a_rebuild_is_a_gap_to_the_next_key() -> None:
    ring = ring_of(stream(100.0, 103.0))
    ring.mark_gap()
    for each in [unit(103.3), unit(103.4), unit(103.5, key=True), unit(103.6)]:
        ring.push(each)
    last_s = 103.0 - FRAME_S
    assert ring.gaps == (pytest.approx((last_s, 103.5)),)
    assert ring.dropped == 2
    assert ring.clip(at_s=103.6, pre_roll_s=1.5).start_s == pytest.approx(102.0)


def test_an_instant_in_a_gap_begins_after_it() -> None:
    """Pictures of an hour ago are no pre-roll of what happened just now."""
    ring = ring_of(stream(100.0, 103.0), keep_s=10.0)
    ring.mark_gap()
    assert ring.since(103.5)[0].captured_s == pytest.approx(102.0), "nothing newer has come yet"
    for each in stream(3700.0, 3701.0):
        ring.push(each)
    clip = ring.clip(at_s=3701.0, pre_roll_s=10.0)
    assert (clip.start_s, clip.delivered_s) == (3700.0, 1.0)
    assert clip.gaps == (pytest.approx((103.0 - FRAME_S, 3700.0)),)
    assert len(ring.since(0.0)) == 30, "what came before the gap is older than is kept"


def test_what_came_before_a_short_outage_is_kept() -> None:
    ring = ring_of(stream(100.0, 103.0), keep_s=10.0)
    ring.mark_gap()
    for each in stream(105.0, 107.0):
        ring.push(each)
    clip = ring.clip(at_s=107.0, pre_roll_s=6.5)
    assert clip.start_s == 100.0
    assert clip.gaps == (pytest.approx((103.0 - FRAME_S, 105.0)),)


def test_a_gap_is_told_as_long_as_its_group_is_kept() -> None:
    ring = ring_of(iter([unit(1.0, key=True), unit(1.1), unit(1.2), unit(4.0)]), keep_s=5.0)
    for number in range(300):
        ring.push(unit(4.0 + number * 0.1))
    assert ring.since(30.0)[0].captured_s == 1.0
    assert ring.clip(at_s=34.0, pre_roll_s=33.0).gaps == ((1.2, 4.0),)


def test_old_gaps_are_forgotten() -> None:
    ring = GopRing(5.0, ROOMY_MB)
    for number in range(1000):
        for each in stream(number * 3.0, number * 3.0 + 1.0):
            ring.push(each)
    assert 1 <= len(ring.gaps) <= 4


def test_memory_stays_below_the_limit_and_the_oldest_groups_leave_first() -> None:
    ring = GopRing(keep_s=1000.0, limit_mb=1.0)
    for each in stream(0.0, 60.0, gop=15, size=10_000):
        ring.push(each)
        assert ring.memory_mb <= 1.0
    kept = ring.since(0.0)
    assert kept[0].key
    assert kept[-1].captured_s == pytest.approx(60.0 - FRAME_S)
    assert 1.0 - 0.16 < sum(len(each.data) for each in kept) / 1e6 < 1.0
    assert (ring.gaps, ring.dropped) == ((), 0)


def test_a_group_beyond_the_limit_is_cut_short_until_the_next_key() -> None:
    long, short = list(stream(100.0, 105.0, gop=150, size=10_000)), list(stream(105.0, 106.0, size=10_000))
    ring = GopRing(keep_s=60.0, limit_mb=1.0)
    for each in long:
        ring.push(each)
        assert ring.memory_mb <= 1.0
    kept = ring.since(104.0)
    assert kept == long[: len(kept)]
    assert 90 < len(kept) < 100
    assert ring.dropped == 150 - len(kept)
    for each in short:
        ring.push(each)
    assert ring.since(105.5) == short
    assert ring.gaps[-1] == (kept[-1].captured_s, short[0].captured_s)


def test_a_stream_without_a_second_key_does_not_leave_old_pictures() -> None:
    ring = GopRing(keep_s=5.0, limit_mb=1.0)
    for each in stream(100.0, 120.0, gop=10_000, size=10_000):
        ring.push(each)
    assert (ring.since(120.0), ring.memory_mb) == ([], 0.0)
    ring.push(unit(121.0, key=True))
    assert len(ring.since(121.0)) == 1


def test_a_unit_beyond_the_limit_is_dropped() -> None:
    ring = ring_of(iter([unit(1.0, key=True), unit(1.1)]), limit_mb=0.01)
    ring.push(unit(1.2, key=True, size=20_000))
    ring.push(unit(1.3))
    assert (ring.since(0.0), ring.memory_mb, ring.dropped) == ([], 0.0, 2)
    ring.push(unit(1.4, key=True))
    assert [each.captured_s for each in ring.since(0.0)] == [1.4]


@pytest.mark.parametrize(("size", "gop"), [(0, 1), (40, 1), (40, 30), (1000, 30), (20_000, 15)])
def test_the_memory_stated_is_the_memory_used(size: int, gop: int) -> None:
    gc.collect()
    tracemalloc.start()
    ring = GopRing(keep_s=1000.0, limit_mb=ROOMY_MB)
    for number in range(3000):
        ring.push(EncodedUnit(bytes([number % 256]) * size, 100.0 + number * FRAME_S, number % gop == 0))
    used_mb = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    assert used_mb <= ring.memory_mb < used_mb + 3000 * 150 / 1e6 + (3000 / gop) * 200 / 1e6


class Model:
    """The ring as a list: every unit that was taken is kept for ever."""

    def __init__(self) -> None:
        self.units: list[EncodedUnit] = []
        self.after_cut: set[int] = set()
        self.wants_key = True

    def push(self, unit_: EncodedUnit) -> None:
        if self.wants_key and not unit_.key:
            return
        if self.wants_key:
            self.after_cut.add(len(self.units))
        self.wants_key = False
        self.units.append(unit_)

    def since(self, t_s: float) -> list[EncodedUnit]:
        keys = [place for place, each in enumerate(self.units) if each.key]
        earlier = [place for place in keys if self.units[place].captured_s <= t_s]
        if not earlier:
            return self.units[keys[0] :] if keys else []
        first = earlier[-1]
        later = [place for place in keys if place > first]
        if later and later[0] in self.after_cut and max(u.captured_s for u in self.units[first : later[0]]) < t_s:
            first = later[0]
        return self.units[first:]


@pytest.mark.parametrize("seed", range(40))
def test_against_a_list_that_forgets_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    keep_s = float(random.uniform(0.5, 8.0))
    ring, model, now_s = GopRing(keep_s, ROOMY_MB), Model(), 100.0
    for _ in range(600):
        now_s += float(random.choice([0.03, 0.05, 2.0, 20.0], p=[0.5, 0.47, 0.02, 0.01]))
        if random.random() < 0.02:
            ring.mark_gap()
            model.wants_key = True
        each = unit(now_s, key=bool(random.random() < 0.1), size=int(random.integers(0, 50)))
        ring.push(each)
        model.push(each)
        t_s = now_s - float(random.uniform(0.0, keep_s))
        if model.units and model.units[-1].captured_s >= now_s - keep_s:
            assert ring.since(t_s) == model.since(t_s)
        kept = ring.since(0.0)
        assert kept == model.units[len(model.units) - len(kept) :]


def test_readers_always_get_a_whole_clip() -> None:
    ring, done, seen = GopRing(keep_s=2.0, limit_mb=0.05), threading.Event(), []

    def read() -> None:
        while not done.is_set():
            units = ring.since(0.0)
            steps = np.diff([each.captured_s for each in units])
            seen.append(not units or (units[0].key and bool(np.allclose(steps, FRAME_S))))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for each in stream(0.0, 200.0, gop=10):
        ring.push(each)
    done.set()
    for reader in readers:
        reader.join()
    assert seen
    assert all(seen)
