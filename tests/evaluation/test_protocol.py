from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scene_records import scene_record

from edge_sdk.clips import LabelledClip, read_labels
from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.detail import decode_footage, luma_of
from edge_sdk.evaluation.evaluate import evaluate
from edge_sdk.evaluation.protocol import Prepared, prepare, scene_samples
from edge_sdk.evaluation.report import Table
from edge_sdk.evaluation.sets import RENDERED, one_per_group, read_sets, set_of_clip, without_false_ends
from edge_sdk.evaluation.trivial import trivial_scorers

FLASH_S = 4.2


def crash_clip(kit: SimpleNamespace, folder: Path) -> LabelledClip:
    """6 s of footage that turns white for good at FLASH_S, then 2 s of flat padding."""
    luma = kit.scene(80, seed=2)
    luma[round(FLASH_S * 10) : 60, :40] = 255
    luma[60:] = 127
    return kit.labelled(kit.write_clip(folder / "crash.mp4", luma), start_s=FLASH_S, end_s=5.2)


@pytest.fixture(scope="module")
def prepared(kit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("archive")
    clips = [crash_clip(kit, folder)]
    clips += [kit.labelled(kit.write_clip(folder / f"n{i}.mp4", kit.scene(120, seed=10 + i))) for i in range(2)]
    clips += [kit.labelled(kit.write_clip(folder / "copy.mp4", kit.scene(30)), group="n1")]
    return prepare(clips, folder / "out", sets={"crash.mp4": "CCD"}, seed=0, repeats=2)


def test_samples_of_every_track_show_the_crash_where_they_say(kit: SimpleNamespace, prepared: Prepared) -> None:
    count = {
        (track, kind): sum(s.track == track and s.kind == kind for s in prepared.samples)
        for track in ("whole", "windows", "streams")
        for kind in ("crash", "normal", "pre_crash")
    }
    assert count == {
        ("whole", "crash"): 1, ("whole", "normal"): 2, ("whole", "pre_crash"): 0,
        ("windows", "crash"): 1, ("windows", "normal"): 2, ("windows", "pre_crash"): 1,
        ("streams", "crash"): 2, ("streams", "normal"): 4, ("streams", "pre_crash"): 0,
    }  # fmt: skip
    for sample in prepared.samples:
        frames = luma_of(decode_footage(sample.path, kit.detail), kit.detail)
        assert len(frames) == pytest.approx(sample.duration_s * 10, abs=1)
        white = np.flatnonzero((frames[:, :40] > 230).mean(axis=(1, 2)) > 0.9)
        if sample.crash:
            assert sample.set == "CCD"
            assert white[0] / 10 == pytest.approx(sample.start_s, abs=0.051)
            assert sample.end_s == pytest.approx(min(sample.start_s + 1.0, sample.duration_s), abs=1e-6)
        else:
            assert white.size == 0
    assert prepared.skipped == ()


def test_flat_padding_is_cut_off_whole_clips(kit: SimpleNamespace, prepared: Prepared) -> None:
    sample = prepared.samples[0]
    assert (sample.track, sample.kind, sample.duration_s) == ("whole", "crash", 6.0)
    assert len(decode_footage(sample.path, kit.detail)) == 60


def test_clips_that_cannot_be_shown_are_listed_with_the_reason(kit: SimpleNamespace, tmp_path: Path) -> None:
    early = kit.labelled(kit.write_clip(tmp_path / "early.mp4", kit.scene(15)), start_s=0.4, end_s=1.0)
    found = prepare([early], tmp_path / "out", sets={}, seed=0)
    assert [name for name, _ in found.skipped] == ["early", "early"]
    assert "2 s needed" in found.skipped[0][1]
    with pytest.raises(ConfigError, match="no clip"):
        prepare([], tmp_path / "out", sets={}, seed=0)


def test_clips_of_one_name_are_refused_before_any_is_decoded(kit: SimpleNamespace, tmp_path: Path) -> None:
    clips = [kit.labelled(tmp_path / folder / "x.mp4", group=folder) for folder in ("a", "b")]
    with pytest.raises(ConfigError, match=r"2 clips are named 'x'.*rename"):
        prepare(clips, tmp_path / "out", sets={}, seed=0)
    assert not (tmp_path / "out").exists()


def test_each_reason_is_the_true_one(kit: SimpleNamespace, tmp_path: Path) -> None:
    """A dot in a name is the name's own, and a clip without a counterpart is not called short."""
    shown = kit.write_clip(tmp_path / "cam.1.mp4", kit.scene(80))
    late = kit.write_clip(tmp_path / "late.mp4", kit.scene(40))
    alone = kit.write_clip(tmp_path / "alone.mp4", kit.scene(50))
    clips = [
        kit.labelled(shown, start_s=4.0, end_s=5.0),
        kit.labelled(late, start_s=9.0, end_s=9.5, view="roadside"),
        kit.labelled(alone, view="roadside"),
    ]
    found = prepare(clips, tmp_path / "out", sets={}, seed=0)
    assert [(s.track, s.kind) for s in found.samples if s.path.name.startswith("cam.1.") and s.track == "windows"] == [
        ("windows", "crash"),
        ("windows", "pre_crash"),
    ]
    reasons = {(name, reason.split(":")[0]): reason for name, reason in found.skipped}
    assert set(reasons) == {
        ("cam.1", "no stream"), ("late", "no window"), ("late", "no stream"),
        ("alone", "no window"), ("alone", "no stream"),
    }  # fmt: skip
    assert "no other normal clip of the view dashcam" in reasons["cam.1", "no stream"]
    assert "the start at 9 s lies behind its 4.0 s of content" in reasons["late", "no window"]
    assert "the start at 9 s lies behind its 4.0 s of content" in reasons["late", "no stream"]
    assert "no piece with a crash" in reasons["alone", "no window"]
    assert "no other normal clip of the view roadside" in reasons["alone", "no stream"]


def test_an_end_that_nobody_labelled_stays_unknown(kit: SimpleNamespace, tmp_path: Path) -> None:
    clips = [
        kit.labelled(kit.write_clip(tmp_path / "c.mp4", kit.scene(70)), start_s=4.0),
        kit.labelled(kit.write_clip(tmp_path / "n.mp4", kit.scene(70))),
    ]
    found = prepare(clips, tmp_path / "out", sets={}, seed=0)
    crashes = [sample for sample in found.samples if sample.crash]
    assert [sample.track for sample in crashes] == ["whole", "windows", "streams"]
    assert [sample.end_s for sample in crashes] == [None] * 3


def test_one_clip_stands_for_a_recording(kit: SimpleNamespace) -> None:
    clips = [kit.labelled(Path(f"{name}.mp4"), group=group) for name, group in (("a", "g"), ("b", "g"), ("c", "h"))]
    clips.append(kit.labelled(Path("d.mp4"), start_s=1.0, group="g"))
    assert [clip.path.stem for clip in one_per_group(clips)] == ["a", "c", "d"]


def test_sets_come_from_the_label_source(tmp_path: Path, kit: SimpleNamespace) -> None:
    rows = {
        "a.mp4": ("cctv", "repo per-frame csv (CADP)", "CADP"),
        "b.mp4": ("dashcam", "CCD Crash-1500.txt (official per-frame)", "CCD"),
        "c.mp4": ("cctv", "repo frame folders (Kaggle ckay16)", "Kaggle + Roboflow"),
        "d.mp4": ("cctv", "Roboflow boxes", "Kaggle + Roboflow"),
        "e.mp4": ("dashcam", "by eye", "dashcam misc"),
        "f.mp4": ("cctv", "by eye", "roadside misc"),
    }
    table = tmp_path / "labels.csv"
    lines = [f"{name},{view},{source}" for name, (view, source, _) in rows.items()]
    table.write_text("\n".join(["clip,view,label_source", *lines]))
    assert read_sets(table) == {name: expected for name, (_, _, expected) in rows.items()}
    clips = [kit.labelled(tmp_path / name, start_s=1.0, end_s=2.0) for name in rows]
    ends = {clip.path.name: clip.end_s for clip in without_false_ends(table, clips)}
    assert ends == {"a.mp4": 2.0, "b.mp4": None, "c.mp4": 2.0, "d.mp4": None, "e.mp4": 2.0, "f.mp4": 2.0}
    assert set_of_clip(kit.labelled(Path("z.mp4"), view="roadside"), {}) == "roadside misc"
    for head, row in (("clip,view", "a.mp4,cctv"), ("clip,view,label_source", "a.mp4,cctv")):
        table.write_text(f"{head}\n{row}\n")
        assert read_sets(table) == {"a.mp4": "roadside misc"}
    table.write_text("clip,view,label_source\ndeep/a.mp4,cctv,CADP\n")
    assert set_of_clip(kit.labelled(tmp_path / "deep" / "a.mp4"), read_sets(table)) == "CADP"
    table.write_text("clip,crash\na.mp4,no\n")
    with pytest.raises(ConfigError, match=r"line 2.*field view is missing"):
        read_sets(table)
    table.write_bytes("clip,view,label_source\na.mp4,cctv,caf\u00e9\n".encode("utf-8-sig"))
    assert read_sets(table) == {"a.mp4": "roadside misc"}
    table.write_bytes("clip,view,label_source\na.mp4,cctv,caf\u00e9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_sets(table)


def test_rendered_scenes_are_shown_as_they_are(kit: SimpleNamespace) -> None:
    clip = dataclasses.replace(kit.labelled(Path("s.mp4"), start_s=2.0, end_s=3.0), pre_crash_s=1.2)
    with pytest.raises(ConfigError, match="scene record"):
        scene_samples([clip])
    record = scene_record((1.2, 2.0, 3.0), name="s")
    (sample,) = scene_samples([dataclasses.replace(clip, record=record)])
    assert (sample.track, sample.set, sample.path) == ("whole", RENDERED, clip.path)
    assert (sample.start_s, sample.warning_s, sample.duration_s) == (2.0, 1.2, 8.0)


def table_of(tables: tuple[Table, ...], track: str, name: str) -> dict[str, float | None]:
    (found,) = [table for table in tables if (table.track, table.name) == (track, name)]
    return {row.scorer: row.frame_auc.value for row in found.rows}


def test_a_clock_is_good_on_real_clips_until_they_are_streamed(shared_data: Path, tmp_path: Path) -> None:
    table = shared_data / "clips" / "labels.csv"
    sets = read_sets(table)
    clips = read_labels(table)
    chosen = [clip for clip in clips if sets[clip.path.name] == "CCD"][:6]
    chosen += [clip for clip in clips if clip.view == "dashcam" and not clip.crash and "udac" not in clip.group][:2]
    found = prepare(chosen, tmp_path, sets=sets, seed=0)
    clock = [scorer for scorer in trivial_scorers() if scorer.name == "clock"]
    tables = evaluate(found.samples, clock, seed=0, bootstrap=0).tables
    whole, streamed = (table_of(tables, track, "CCD")["clock"] for track in ("whole", "streams"))
    assert whole is not None
    assert streamed is not None
    assert whole > 0.94
    assert streamed < whole - 0.15
