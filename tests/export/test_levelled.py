"""A levelled clip is another one than its source, and the same one whenever it is made again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge_sdk.bundle import default_bundle
from edge_sdk.bundle.student_origin import mark_of
from edge_sdk.clips import LabelledClip, content_of, read_record
from edge_sdk.evaluation.detail import Detail
from edge_sdk.export.distil.levelled import level_clips

CLIP = default_bundle() / "demo" / "clip.mp4"


def test_what_stands_for_a_levelled_clip_says_of_what_it_was_made_and_how(tmp_path: Path) -> None:
    plain = LabelledClip(
        path=CLIP, view="roadside", crash=False, start_s=None, end_s=None, pre_crash_s=None, group="demo"
    )
    scene = replace(plain, record=read_record(CLIP.with_suffix(".json")))
    (level,) = level_clips([plain], tmp_path / "one")
    (again,) = level_clips([plain], tmp_path / "two")
    (other,) = level_clips([plain], tmp_path / "one", Detail(bitrate_kbps=100))
    (of_scene,) = level_clips([scene], tmp_path / "one")
    assert content_of(level) == content_of(again)
    # Nor is a file of one form taken for that of another.
    assert level.path.name == again.path.name
    assert other.path.stat().st_size < 0.8 * level.path.stat().st_size
    assert len({content_of(each) for each in (plain, scene, level, other)}) == 4
    assert content_of(of_scene) != content_of(scene)
    # A student that has learnt from the copy has seen the clip.
    assert (mark_of(level), mark_of(of_scene)) == (mark_of(plain), mark_of(scene))
    assert mark_of(plain) != mark_of(scene)
