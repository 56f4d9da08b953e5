"""The history of RGB frames: a fixed ring, consecutive windows, readers that follow and those that come too late."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.capture.history import FrameHistory
from edge_sdk.capture.settings import HistorySettings
from edge_sdk.errors import ConfigError

SMALL = HistorySettings(width=8, height=4, rate_hz=10.0, keep_s=2.0)
T0_S = 500.0


def filled(count: int, settings: HistorySettings = SMALL) -> FrameHistory:
    """Frame n holds the value n and was captured at T0 + n / 10."""
    history = FrameHistory(settings)
    for number in range(count):
        history.push(picture(number, settings), T0_S + number / 10, 1.7e9 + number if number % 2 else None)
    return history


def picture(number: int, settings: HistorySettings = SMALL) -> NDArray[np.uint8]:
    return np.full((settings.height, settings.width, 3), number % 251, np.uint8)


def numbers(pixels: NDArray[np.uint8]) -> list[int]:
    """The value of each frame, all of whose pixels must agree."""
    assert (pixels == pixels[:, :1, :1, :1]).all()
    return [int(value) for value in pixels[:, 0, 0, 0]]


def test_a_window_begins_with_the_first_frame_at_or_after_the_instant() -> None:
    window = filled(15).window(T0_S + 0.35, 5)
    assert window.pixels.dtype == np.uint8
    assert numbers(window.pixels) == [4, 5, 6, 7, 8]
    assert window.captured_s.tolist() == [T0_S + n / 10 for n in range(4, 9)]
    assert np.isnan(window.sender_utc_s[[0, 2, 4]]).all()
    assert window.sender_utc_s[[1, 3]].tolist() == [1.7e9 + 5, 1.7e9 + 7]
    assert (window.first, window.next, window.missed) == (4, 9, 0)


def test_a_window_from_before_the_ring_begins_with_the_oldest_kept() -> None:
    window = filled(53).window(0.0, 96)
    assert numbers(window.pixels) == list(range(33, 53))
    assert window.first == 33


def test_a_window_of_the_future_is_empty_and_can_be_gone_on_with() -> None:
    history = filled(3)
    window = history.window(T0_S + 1.0, 96)
    assert len(window.pixels) == 0
    history.push(picture(3), T0_S + 1.0)
    assert numbers(history.since(window.next).pixels) == [3]


def test_ninety_six_frames_are_appended_as_they_arrive() -> None:
    """Design 3.4: the same frames whether taken at once or while they come."""
    settings = HistorySettings(width=8, height=4, rate_hz=10.0, keep_s=15.0)
    history = filled(60, settings)
    window = history.window(T0_S + 2.0, 96)
    got, position = numbers(window.pixels), window.next
    for number in range(60, 130):
        history.push(picture(number, settings), T0_S + number / 10)
        if number % 7 == 0:
            more = history.since(position, 96 - len(got))
            assert more.missed == 0
            got, position = got + numbers(more.pixels), more.next
    assert got == list(range(20, 116))
    assert numbers(history.window(T0_S + 2.0, 96).pixels) == got


def test_a_reader_that_comes_too_late_is_told_what_it_missed() -> None:
    history = filled(12)
    position = history.since(0).next
    assert position == history.next == 12
    for number in range(12, 50):
        history.push(picture(number), T0_S + number / 10)
    late = history.since(position)
    assert (late.missed, late.first) == (18, 30)
    assert numbers(late.pixels) == list(range(30, 50))
    assert len(history.since(99).pixels) == 0
    assert history.since(99).missed == 0


def test_what_was_read_stays_as_it_was() -> None:
    history = filled(20)
    window, source = history.window(T0_S, 3), picture(20)
    history.push(source, T0_S + 2.0)
    source.fill(0)
    for number in range(21, 40):
        history.push(picture(number), T0_S + number / 10)
    assert numbers(window.pixels) == [0, 1, 2]
    assert numbers(history.since(20, 1).pixels) == [20]


@pytest.mark.parametrize("seed", range(20))
def test_against_a_list(seed: int) -> None:
    random = np.random.default_rng(seed)
    settings = HistorySettings(width=2, height=1, rate_hz=1.0, keep_s=float(random.integers(1, 30)))
    history = FrameHistory(settings)
    pushed: list[float] = []
    for _ in range(200):
        if random.random() < 0.7:
            pushed.append(T0_S + len(pushed) / 10)
            history.push(picture(len(pushed) - 1, settings), pushed[-1])
        kept = list(enumerate(pushed))[-int(settings.keep_s) :]
        count, from_s = int(random.integers(0, 12)), T0_S + float(random.uniform(-1, 15))
        sequence = int(random.integers(0, len(pushed) + 3))
        window, since = history.window(from_s, count), history.since(sequence, count)
        assert numbers(window.pixels) == [n for n, at_s in kept if at_s >= from_s][:count]
        assert numbers(since.pixels) == [n for n, _ in kept if n >= sequence][:count]
        oldest = kept[0][0] if kept else 0
        assert since.missed == max(0, oldest - sequence)


def test_readers_never_see_half_a_frame() -> None:
    settings = HistorySettings(width=64, height=48, rate_hz=10.0, keep_s=2.0)
    history, done, read = FrameHistory(settings), threading.Event(), []

    def follow() -> None:
        position = 0
        while not done.is_set():
            window = history.since(position)
            read.append(numbers(window.pixels) == [n % 251 for n in range(window.first, window.next)])
            position = window.next

    reader = threading.Thread(target=follow)
    reader.start()
    for number in range(2000):
        history.push(picture(number, settings), T0_S + number / 10)
    done.set()
    reader.join()
    assert read
    assert all(read)


MEASURED = """
import os
from pathlib import Path
import numpy as np
from edge_sdk.capture.history import FrameHistory
from edge_sdk.capture.settings import HistorySettings

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

frame = np.full((360, 640, 3), 7, np.uint8)
before_mb = resident_mb()
history = FrameHistory(HistorySettings(width=640, height=360, rate_hz=10.0, keep_s=6.0))
opened_mb = resident_mb()
for number in range(130):
    history.push(frame, 1000.0 + number / 10)
print(history.memory_mb, opened_mb - before_mb, resident_mb() - opened_mb)
"""


def test_memory_is_taken_at_opening_and_never_more() -> None:
    """In a process of its own: what other tests have freed would be taken again."""
    said = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True, timeout=60)
    stated_mb, opened_mb, later_mb = (float(value) for value in said.stdout.split())
    assert stated_mb == pytest.approx(60 * 640 * 360 * 3 / 1e6, rel=1e-3)
    assert opened_mb == pytest.approx(stated_mb, rel=0.1)
    assert later_mb < 0.1 * stated_mb


def test_a_history_that_does_not_fit_is_refused_when_opening() -> None:
    """800 TB: more than any address space of today holds."""
    with pytest.raises(ConfigError, match=r"1000000 frames of 16384 x 16384 needs 805306368 MB.*keep fewer seconds"):
        FrameHistory(HistorySettings(width=16384, height=16384, keep_s=1e5))


@pytest.mark.parametrize("frame", [np.zeros((1, 1, 3), np.uint8), np.zeros((4, 8, 3), np.float32)])
def test_a_frame_of_another_kind_is_a_bug(frame: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"uint8 \(4, 8, 3\)"):
        FrameHistory(SMALL).push(frame, T0_S)
