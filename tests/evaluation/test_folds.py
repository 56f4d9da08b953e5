"""Folds by recording: what is together stays together, and every fold gets its part."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_sdk.clips import LabelledClip, View
from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.detail import decode_footage, luma_of
from edge_sdk.evaluation.folds import assign_folds, read_folds, split, write_folds
from edge_sdk.evaluation.protocol import prepare


def clip(name: str, group: str, view: View, crash: bool) -> LabelledClip:
    return LabelledClip(
        path=Path(f"{name}.mp4"),
        view=view,
        crash=crash,
        start_s=1.0 if crash else None,
        end_s=None,
        pre_crash_s=None,
        group=group,
    )


def archive() -> list[LabelledClip]:
    """23 roadside crashes, 7 roadside normals, 11 dashcam crashes, each twice; one group of both kinds."""
    made = []
    views: tuple[tuple[View, bool, int], ...] = (("roadside", True, 23), ("roadside", False, 7), ("dashcam", True, 11))
    for view, crash, count in views:
        for number in range(count):
            group = f"{view}-{crash}-{number}"
            made += [clip(f"{group}-{copy}", group, view, crash) for copy in range(2)]
    return [*made, clip("both-0", "both", "dashcam", False), clip("both-1", "both", "dashcam", True)]


def test_every_fold_gets_its_part_and_no_recording_is_parted() -> None:
    clips = archive()
    folds = assign_folds(clips, 5)
    assert set(folds) == {each.group for each in clips}
    for view, crash in (("roadside", True), ("roadside", False), ("dashcam", True)):
        groups = {each.group for each in clips if (each.view, each.crash) == (view, crash)}
        sizes = Counter(folds[group] for group in groups)
        assert max(sizes.values()) - min(sizes[fold] for fold in range(5)) <= 1
    assert max(Counter(folds.values()).values()) - min(Counter(folds.values()).values()) <= 1
    for held_out in range(5):
        training, judged = split(clips, folds, held_out)
        assert len(training) + len(judged) == len(clips)
        assert not {each.group for each in training} & {each.group for each in judged}


def test_folds_depend_on_names_alone() -> None:
    clips = archive()
    assert assign_folds(clips[::-1], 5) == assign_folds(clips, 5)


def test_folds_must_be_two_and_at_most_the_groups() -> None:
    for count in (1, 43):
        with pytest.raises(ConfigError, match=f"found {count} of 42"):
            assign_folds(archive(), count)


def test_folds_are_read_as_written(tmp_path: Path) -> None:
    clips = archive()
    folds = assign_folds(clips, 3)
    write_folds(tmp_path, clips, folds)
    found = read_folds(tmp_path)
    assert found.count == 3
    assert found.clips == {each.path.stem: folds[each.group] for each in clips}
    (tmp_path / "folds.json").write_text("{}")
    with pytest.raises(ConfigError, match="not readable"):
        read_folds(tmp_path)


def test_what_surrounds_a_stream_is_of_its_own_fold(kit: SimpleNamespace, tmp_path: Path) -> None:
    """Every normal has its own grey; the crash shares its fold with that of 200."""
    luma = kit.scene(60, seed=2)
    clips = [kit.labelled(kit.write_clip(tmp_path / "crash.mp4", luma), start_s=4.2, end_s=5.2, group="crash")]
    for level in (60, 200):
        grey = np.full((120, kit.detail.detail_px, kit.detail.detail_px), level, np.uint8)
        grey[:, ::13] = level - 40
        clips.append(kit.labelled(kit.write_clip(tmp_path / f"{level}.mp4", grey)))
    folds = {"crash": 0, "60": 1, "200": 0}
    found = prepare(clips, tmp_path / "out", sets={}, seed=0, folds=folds, repeats=4)
    streams = [sample for sample in found.samples if sample.track == "streams" and sample.crash]
    assert len(streams) == 4
    for sample in streams:
        shown = luma_of(decode_footage(sample.path, kit.detail), kit.detail)
        assert shown[0].mean() > 150
        assert shown[-1].mean() > 150
