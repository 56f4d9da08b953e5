"""Writing and rewriting bundles: whole or not at all, and never over what was not asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from toy_bundle import STUDENT, files, write

from edge_sdk.bundle import Bundle, rewrite
from edge_sdk.bundle.manifest import DemoClip, OperatingPoint
from edge_sdk.errors import (
    BundleChangedFileError,
    BundleKeyError,
    ConfigError,
)


def test_an_existing_folder_is_not_overwritten_unasked(folder: Path) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        write(folder, version="2")
    assert Bundle.open(folder).manifest.version == "1"
    assert write(folder, version="2", overwrite=True).manifest.version == "2"
    assert Bundle.open(folder).manifest.version == "2"
    assert [path.name for path in folder.parent.iterdir()] == ["toy"]


class Interrupted(dict[str, Path | bytes]):
    """Files whose listing is interrupted after the first, as by Ctrl-C."""

    def items(self) -> Any:
        def some() -> Iterator[tuple[str, Path | bytes]]:
            yield next(iter(super(Interrupted, self).items()))
            raise KeyboardInterrupt

        return some()


@pytest.mark.parametrize("existing", [True, False])
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, existing: bool) -> None:
    if existing:
        write(tmp_path / "toy")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "toy", version="2", files=Interrupted(files()), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == (["toy"] if existing else [])
    if existing:
        assert Bundle.open(tmp_path / "toy").manifest.version == "1"


def test_a_source_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "toy", files=files() | {"notes.txt": tmp_path / "nowhere"})
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_json_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(BundleKeyError, match="JSON"):
        write(tmp_path / "toy", provenance={"f1": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_files_are_copied_from_paths(tmp_path: Path) -> None:
    (tmp_path / "source.txt").write_bytes(b"from disk")
    bundle = write(tmp_path / "toy", files=files() | {"notes.txt": tmp_path / "source.txt"})
    assert bundle.path("notes.txt").read_bytes() == b"from disk"


POINT = OperatingPoint(name="calibrated", confirm=0.7, calibrated=True)


def test_a_changed_copy(folder: Path, tmp_path: Path) -> None:
    old = Bundle.open(folder)
    new = rewrite(
        old,
        tmp_path / "new",
        student=msgspec.structs.replace(STUDENT, operating_point=POINT),
        demo=DemoClip(video="demo.mp4", record="notes.txt"),
        provenance={"calibration": {"clips": 40}},
        extra_files={"calibration.json": b"{}", "notes.txt": b"newer", "demo.mp4": b"video"},
    )
    reopened = Bundle.open(tmp_path / "new")
    assert reopened == new
    assert reopened.manifest.student is not None
    assert reopened.manifest.student.operating_point == POINT
    assert reopened.manifest.demo == DemoClip(video="demo.mp4", record="notes.txt")
    assert reopened.manifest.graphs == old.manifest.graphs
    assert reopened.manifest.provenance == {**old.manifest.provenance, "calibration": {"clips": 40}}
    assert reopened.path("notes.txt").read_bytes() == b"newer"
    assert reopened.path("calibration.json").read_bytes() == b"{}"
    assert Bundle.open(folder) == old


def test_a_bundle_changed_in_place(folder: Path) -> None:
    old = Bundle.open(folder)
    with pytest.raises(ConfigError, match="exists already"):
        rewrite(old, folder, version="2")
    new = rewrite(old, folder, version="2", overwrite=True)
    assert Bundle.open(folder).sha256 == new.sha256 != old.sha256
    assert [path.name for path in folder.parent.iterdir()] == ["toy"]


def test_a_changed_copy_does_not_vouch_for_a_changed_byte(folder: Path, tmp_path: Path) -> None:
    old = Bundle.open(folder)
    (folder / "graphs/student.weights").write_bytes(bytes(48))
    with pytest.raises(BundleChangedFileError, match=r"student\.weights"):
        rewrite(old, tmp_path / "new", version="2")
    assert not (tmp_path / "new").exists()
