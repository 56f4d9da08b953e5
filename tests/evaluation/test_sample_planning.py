from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_sdk.evaluation import streams, windows
from edge_sdk.evaluation.samples import Footage, Sample


def crowd(kit: SimpleNamespace, crashes: int = 40, normals: int = 15) -> list[Footage]:
    rng = np.random.default_rng(4)
    found = []
    for i in range(crashes):
        start_s = float(rng.uniform(1.0, 8.0))
        clip = kit.labelled(Path(f"c{i}.mp4"), start_s=start_s, end_s=start_s + 1)
        found.append(kit.numbered(clip, int((start_s + rng.uniform(0.3, 4)) * 10), i))
    lengths = rng.integers(30, 200, normals)
    return found + [kit.numbered(kit.labelled(Path(f"n{i}.mp4")), int(n), 200 + i) for i, n in enumerate(lengths)]


def test_both_classes_have_one_distribution_of_lengths() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.uniform(2, 5, 60), rng.uniform(3, 9, 30)
    one, other = windows.matched_lengths(list(first), list(second))
    assert all(length <= room for length, room in zip(one, first, strict=True))
    assert all(length <= room for length, room in zip(other, second, strict=True))
    assert np.quantile(one, [0.1, 0.5, 0.9]) == pytest.approx(np.quantile(other, [0.1, 0.5, 0.9]), abs=0.15)


def test_windows_hold_what_they_claim(kit: SimpleNamespace) -> None:
    planned = windows.plan_windows(crowd(kit), seed=1)
    kinds = [window.kind for window in planned]
    assert min(kinds.count(kind) for kind in ("crash", "normal", "pre_crash")) > 5
    for window in planned:
        clip = window.footage.clip
        assert 0 <= window.begin_s < window.end_s <= window.footage.content_s + 1e-6
        assert window.end_s - window.begin_s >= windows.MIN_WINDOW_S - 0.1 - 1e-6
        if window.kind == "crash":
            assert window.begin_s <= clip.start_s < window.end_s
        if window.kind == "pre_crash":
            assert clip.start_s >= windows.PRE_CRASH_MIN_START_S
            assert window.end_s <= clip.start_s - windows.PRE_CRASH_GAP_S + 1e-6


def test_a_crash_that_is_not_to_be_seen_gives_no_crash_piece(kit: SimpleNamespace) -> None:
    """Starts at the end, behind it, and between the last picture and the end; a window says "crash" of none."""

    def crash(name: str, start_s: float | None, frames: int) -> Footage:
        clip = kit.labelled(Path(f"{name}.mp4"), start_s=start_s, end_s=start_s)
        return kit.numbered(clip, frames, tag=1)

    normal = kit.numbered(kit.labelled(Path("n.mp4")), 100, tag=2)
    hidden = [crash("at", 4.0, 40), crash("behind", 9.0, 40), crash("between", 3.95, 40), crash("short", 4.0, 12)]
    last = crash("last", 3.9, 40)
    planned = windows.plan_windows([*hidden, last, normal], seed=0)
    assert {window.footage.clip.path.stem for window in planned if window.kind == "crash"} == {"last"}
    for window in planned:
        pictures = window.footage.cut(window.begin_s, window.end_s)[:, 1]
        assert len(pictures) >= 20
        if window.kind == "crash":
            assert 39 in pictures
        if window.kind == "pre_crash":
            assert pictures.max() / 10 < window.footage.clip.start_s - windows.PRE_CRASH_GAP_S
    # Without any other piece that shows a crash there is nothing to compare, and no piece.
    assert windows.plan_windows([*hidden, normal], seed=0) == []


def test_offsets_are_random_but_repeatable(kit: SimpleNamespace) -> None:
    footage = crowd(kit)
    first, again, other = (windows.plan_windows(footage, seed) for seed in (1, 1, 2))
    assert [window.begin_s for window in first] == [window.begin_s for window in again]
    assert [window.begin_s for window in first] != [window.begin_s for window in other]
    offsets = [w.footage.clip.start_s - w.begin_s for w in first if w.kind == "crash"]
    assert np.std(offsets) > 0.4


def test_a_stream_has_the_crash_where_it_says(kit: SimpleNamespace) -> None:
    crash = kit.numbered(kit.labelled(Path("c.mp4"), start_s=4.0, end_s=5.0), 80, tag=1)
    normals = [kit.numbered(kit.labelled(Path(f"n{i}.mp4")), 150, tag=10 + i) for i in range(3)]
    found = streams.build_streams([crash], normals, seed=3, repeats=8)
    begins = set()
    for stream in found:
        tags, numbers = stream.frames[:, 0], stream.frames[:, 1]
        inside = np.flatnonzero(tags == 1)
        assert inside[0] == round(stream.begin_s * 10)
        assert inside[-1] + 1 == round(stream.end_s * 10)
        assert numbers[inside[0]] == round(stream.drop_s * 10)
        assert 0 <= stream.drop_s <= streams.MAX_DROP_S
        assert set(tags[: inside[0]]) <= {10, 11, 12}
        assert len(stream.frames) > inside[-1] + 1
        begins.add(stream.begin_s)
    assert len(begins) > 4


def test_streams_need_normal_footage_of_the_same_view_and_another_group(kit: SimpleNamespace) -> None:
    crash = kit.numbered(kit.labelled(Path("c.mp4"), start_s=4.0, group="g"), 80, tag=1)
    roadside = kit.numbered(kit.labelled(Path("r.mp4"), view="roadside"), 150, tag=2)
    same_group = kit.numbered(kit.labelled(Path("s.mp4"), group="g"), 150, tag=3)
    assert streams.build_streams([crash], [roadside, same_group], seed=0, repeats=1) == []


@pytest.mark.parametrize(("start_s", "possible"), [(1.4, False), (1.5, True), (7.9, True), (8.0, False)])
def test_a_start_in_a_splice_s_shadow_is_not_streamed(kit: SimpleNamespace, start_s: float, possible: bool) -> None:
    item = kit.numbered(kit.labelled(Path("c.mp4"), start_s=start_s), 80, tag=1)
    assert streams.can_stream(item) is possible


def test_shadows_and_surroundings_do_not_count() -> None:
    sample = Sample(
        path=Path("a.mp4"),
        track="streams",
        kind="crash",
        set="CCD",
        view="dashcam",
        group="g",
        duration_s=12.0,
        start_s=6.0,
        end_s=7.0,
        scored_s=(3.0, 9.0),
        shadows_s=((3.0, 4.5), (9.0, 10.5)),
    )
    times = np.array([2.9, 3.0, 4.4, 4.5, 6.0, 7.0, 7.1, 8.9, 9.0, 11.0])
    assert sample.counted(times).tolist() == [False, False, False, True, True, True, True, True, False, False]
    assert sample.crashing(times).tolist() == [False] * 4 + [True, True] + [False] * 4
