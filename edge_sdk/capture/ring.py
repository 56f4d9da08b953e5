"""The encoded units of the last seconds, in whole groups of pictures: what a recording begins with.

A group of pictures (GOP) is a key unit and the units that depend on it; a clip can only begin with a key unit. The ring
keeps the GOP that contains the asked instant, so the pre-roll delivered is never shorter than the one asked for.
"""

from __future__ import annotations

import itertools
import math
import statistics
import threading
from collections import deque

from edge_sdk.capture.player import EncodedUnit
from edge_sdk.types import Value

# What Python needs besides a unit's bytes: two object headers, a time stamp, a place in a list, heap rounding.
UNIT_OVERHEAD_BYTES = 192
GOP_OVERHEAD_BYTES = 320
# A pause is a gap if it is longer than both limits: networks bunch pictures, and a camera may give one in two seconds.
GAP_S = 1.0
GAP_INTERVALS = 3
_INTERVALS_KEPT = 31


class Clip(Value, frozen=True, kw_only=True):
    """Units that a decoder can begin with, in the order of the stream; none while the ring is empty.

    `asked_s` is the pre-roll asked for before `at_s`, `delivered_s` how long before `at_s` the units begin. Times are
    on the clock of `time.monotonic()`; the asked instant is `at_s - asked_s`. `gaps` are the spans without units
    between it and `end_s`, given whole even if one reaches beyond them. If the asked instant lies in a gap that ended
    with a key unit, the clip begins after the gap; if it is older than the ring, with the oldest unit kept.
    """

    units: tuple[EncodedUnit, ...]
    at_s: float
    asked_s: float
    start_s: float
    end_s: float
    gaps: tuple[tuple[float, float], ...]

    @property
    def delivered_s(self) -> float:
        """The pre-roll delivered, in seconds."""
        return self.at_s - self.start_s


class GopRing:
    """Encoded units of at least the last `keep_s` seconds, in at most `limit_mb` (10^6 bytes).

    Whole GOPs are removed, oldest first, when the rest still reaches back `keep_s` from the newest unit, or when the
    memory limit would be exceeded. A GOP that would exceed the limit alone is cut short: its beginning stays until it
    is older than `keep_s`, its further units are dropped until the next key unit, and the missing part is a gap. Units
    before the first key unit, and between a marked gap and the next key unit, are dropped as well; `dropped` counts
    them all.

    `keep_s` must cover the pre-roll and the time from an event to the call that asks for its clip. Thread-safe.
    """

    def __init__(self, keep_s: float, limit_mb: float) -> None:
        self.keep_s = keep_s
        self.limit_mb = limit_mb
        self.dropped = 0
        self._lock = threading.Lock()
        self._gops: deque[_Gop] = deque()
        self._gaps: deque[tuple[float, float]] = deque()
        self._bytes = 0
        self._newest_s: float | None = None  # of the units that were kept
        self._intervals_s: deque[float] = deque(maxlen=_INTERVALS_KEPT)
        self._wants_key = True

    @property
    def memory_mb(self) -> float:
        """Memory of the units kept, in 10^6 bytes; never above `limit_mb`."""
        return self._bytes / 1e6

    @property
    def gaps(self) -> tuple[tuple[float, float], ...]:
        """The gaps among the units kept, each from the last unit before to the first unit after."""
        with self._lock:
            return tuple(self._gaps)

    def push(self, unit: EncodedUnit) -> None:
        """Take the next unit of the stream; times may go back within a GOP, because pictures are reordered."""
        with self._lock:
            if self._wants_key and not unit.key:
                self.dropped += 1
            elif self._make_room(unit):
                self._note_gap(unit.captured_s)
                self._append(unit)
            self._forget(unit.captured_s - self.keep_s)

    def mark_gap(self) -> None:
        """Note an interruption of the source: the next units are of another stream, and begin with its key unit."""
        with self._lock:
            self._cut()

    def since(self, t_s: float) -> list[EncodedUnit]:
        """The units from the key unit at or before `t_s`; gaps and old times are treated as `Clip` says."""
        return list(self.clip(t_s, 0.0).units)

    def clip(self, at_s: float, pre_roll_s: float) -> Clip:
        """The units from `pre_roll_s` before `at_s`, or earlier, to the newest."""
        from_s = at_s - pre_roll_s
        with self._lock:
            gops = list(self._gops)[self._first(from_s) :]
            units = tuple(itertools.chain.from_iterable(gop.units for gop in gops))
            gaps = tuple(self._gaps)
            end_s = max((gop.end_s for gop in gops), default=at_s)
        return Clip(
            units=units,
            at_s=at_s,
            asked_s=pre_roll_s,
            start_s=gops[0].start_s if gops else at_s,
            end_s=end_s,
            gaps=tuple(gap for gap in gaps if gap[1] > from_s and gap[0] < end_s),
        )

    def _first(self, from_s: float) -> int:
        """The index of the GOP that a clip from `from_s` begins with."""
        earlier = [place for place, gop in enumerate(self._gops) if gop.start_s <= from_s]
        first = earlier[-1] if earlier else 0
        return first + (first + 1 < len(self._gops) and self._gops[first].over_before(from_s))

    def _make_room(self, unit: EncodedUnit) -> bool:
        """Remove GOPs older than the unit's own as needed; returns whether the unit then fits."""
        others = len(self._gops) if unit.key else len(self._gops) - 1
        while others and self._bytes + _cost(unit) > self.limit_mb * 1e6:
            self._evict()
            others -= 1
        if self._bytes + _cost(unit) <= self.limit_mb * 1e6:
            return True
        self.dropped += 1
        self._cut()
        return False

    def _append(self, unit: EncodedUnit) -> None:
        if unit.key:
            self._gops.append(_Gop(unit.captured_s))
            self._wants_key = False
        gop = self._gops[-1]
        gop.units.append(unit)
        gop.bytes += _cost(unit)
        gop.end_s = max(gop.end_s, unit.captured_s)
        self._bytes += _cost(unit)
        self._newest_s = unit.captured_s if self._newest_s is None else max(self._newest_s, unit.captured_s)

    def _note_gap(self, captured_s: float) -> None:
        """Note a gap before the unit of `captured_s`, if there is one; called before that unit is kept."""
        if self._newest_s is None:
            return
        pause_s = captured_s - self._newest_s
        usual_s = statistics.median(self._intervals_s) if self._intervals_s else math.inf
        if pause_s <= 0:
            return
        if self._wants_key or pause_s > max(GAP_S, GAP_INTERVALS * usual_s):
            self._gaps.append((self._newest_s, captured_s))
        self._intervals_s.append(pause_s)

    def _cut(self) -> None:
        self._wants_key = True
        if self._gops:
            self._gops[-1].cut = True

    def _forget(self, horizon_s: float) -> None:
        """Remove GOPs and gaps that lie wholly before `horizon_s`."""
        while len(self._gops) > 1 and self._gops[1].start_s <= horizon_s:
            self._evict()
        while self._gops and self._gops[0].over_before(horizon_s):
            self._evict()
        oldest_s = min(horizon_s, self._gops[0].start_s) if self._gops else horizon_s
        while self._gaps and self._gaps[0][1] <= oldest_s:
            self._gaps.popleft()

    def _evict(self) -> None:
        self._bytes -= self._gops.popleft().bytes


class _Gop:
    """One group of pictures; `cut`: the stream was interrupted in it or right after it."""

    __slots__ = ("bytes", "cut", "end_s", "start_s", "units")

    def __init__(self, start_s: float) -> None:
        self.units: list[EncodedUnit] = []
        self.bytes = 0
        self.start_s = self.end_s = start_s
        self.cut = False

    def over_before(self, t_s: float) -> bool:
        """Whether this GOP ends before `t_s` and is followed by a gap instead of the next GOP."""
        return self.cut and self.end_s < t_s


def _cost(unit: EncodedUnit) -> int:
    return len(unit.data) + UNIT_OVERHEAD_BYTES + unit.key * GOP_OVERHEAD_BYTES
