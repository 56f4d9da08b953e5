"""A change to the code that makes a stage is seen, wherever below it lies; a calibration makes its stages anew."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from asking_clips import make_clip
from pipeline_runs import make_inputs

from edge_sdk.export.code_digest import code_digest, export_code, quantise_code
from edge_sdk.export.quantise import calibrate as calibration
from edge_sdk.export.quantise.clip_sequences import ClipReader
from edge_sdk.toolchain.calibrating import calibrate

ROOM = Path(calibration.__file__).parents[1]


def test_a_changed_file_anywhere_below_is_another_version(tmp_path: Path) -> None:
    shutil.copytree(ROOM / "quantise", tmp_path / "quantise", ignore=shutil.ignore_patterns("__pycache__"))
    known = {code_digest(tmp_path / "quantise")}
    assert known == {*quantise_code().values()}
    files = sorted((tmp_path / "quantise").rglob("*.py"))
    assert {path.parent.name for path in files} >= {"quantise", "activations", "student"}
    for path in files:
        path.write_bytes(path.read_bytes() + b"#")
        known.add(code_digest(tmp_path / "quantise"))
    files[0].rename(files[0].with_name("renamed.py"))
    known.add(code_digest(tmp_path / "quantise"))
    assert len(known) == len(files) + 2


def test_an_exports_version_is_of_all_that_its_stages_are_made_with(tmp_path: Path) -> None:
    shutil.copytree(ROOM, tmp_path / "export", ignore=shutil.ignore_patterns("__pycache__"))
    apart = ("distil", "mini", "quantise")
    before = code_digest(tmp_path / "export", without=apart)
    assert export_code()["edge_sdk"].endswith(f"+{before}")
    code = "import sys, edge_sdk.export.language_stages\nprint(*(m for m in sys.modules if m.startswith('edge_sdk.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = [name.split(".")[2:] for name in done.stdout.split() if name.startswith("edge_sdk.export.")]
    assert ["graphs", "loading"] in loaded
    assert not [name for name in loaded if name[0] in apart]
    (tmp_path / "export/graphs/loading.py").write_text("")
    changed = code_digest(tmp_path / "export", without=apart)
    assert changed != before
    (tmp_path / "export/quantise/plan.py").write_text("")
    assert code_digest(tmp_path / "export", without=apart) == changed


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg is not installed")
def test_a_stopped_calibration_does_not_go_on_with_what_older_code_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_inputs(tmp_path)
    (tmp_path / "clips").mkdir()
    for name in ("one", "two"):
        make_clip(tmp_path / f"clips/{name}.mp4", seconds=0.3, rate="20" if name == "two" else "10")
    write, read = ClipReader.write, list[str]()

    def run(stop_at: int, code: Mapping[str, str]) -> list[str]:
        def stopping(reader: ClipReader, clip: Path, folder: Path) -> None:
            read.append(clip.stem)
            if len(read) == stop_at:
                raise KeyboardInterrupt
            write(reader, clip, folder)

        read.clear()
        monkeypatch.setattr(calibration, "quantise_code", lambda: dict(code))
        monkeypatch.setattr(ClipReader, "write", stopping)
        with pytest.raises(KeyboardInterrupt):
            calibrate(tmp_path / "base", tmp_path / "clips", tmp_path / "seen", frames=1, dtype="float32", quiet=True)
        return [*read]

    first = run(2, quantise_code())
    assert len(first) == 2
    assert run(1, quantise_code()) == first[1:]
    assert run(2, {"quantise_code": "another"}) == first
