"""Writing and rewriting bundles: whole or not at all, and never over what was not asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from toy_bundle import STUDENT, files, write

from edge_sdk.bundle import Bundle, rewrite
from edge_sdk.bundle.manifest import DemoClip, OperatingPoint
from edge_sdk.cli.bundle_text import describe
from edge_sdk.errors import (
    BundleChangedFileError,
    BundleKeyError,
    BundlePathError,
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


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), object(), "\ud800", nested(5_000)],
    ids=["nan", "inf", "object", "half", "deep"],
)
def test_a_value_that_json_cannot_hold(tmp_path: Path, value: object) -> None:
    with pytest.raises(BundleKeyError, match="JSON"):
        write(tmp_path / "toy", provenance={"f1": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", [True, False])
def test_a_manifest_among_the_files(tmp_path: Path, link: bool) -> None:
    (tmp_path / "source.json").write_bytes(b"precious")
    with pytest.raises(BundlePathError, match="cannot list itself"):
        write(tmp_path / "toy", files=files() | {"manifest.json": tmp_path / "source.json"}, link=link)
    assert (tmp_path / "source.json").read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["source.json"]


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


class Overwriting(Mapping[str, "Path | bytes"]):
    """No files; but whoever looks finds `victim` with other bytes of the same number behind him."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __iter__(self) -> Iterator[str]:
        self.victim.write_bytes(bytes(self.victim.stat().st_size))
        return iter(())

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, path: str) -> Path | bytes:
        raise KeyError(path)


def test_a_byte_changed_between_the_check_and_the_copy_is_not_vouched_for(folder: Path, tmp_path: Path) -> None:
    old = Bundle.open(folder)
    with pytest.raises(BundleChangedFileError, match=r"student\.weights"):
        rewrite(old, tmp_path / "new", extra_files=Overwriting(folder / "graphs/student.weights"))
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_a_bundle_that_a_killed_rewriting_put_aside_is_rewritten(folder: Path) -> None:
    old = Bundle.open(folder)
    folder.rename(folder.with_name("toy.old-99999999-0123abcd"))
    folder.with_name("toy.tmp-99999999-0123abcd").mkdir()
    new = rewrite(old, folder, version="2", overwrite=True)
    assert Bundle.open(folder) == new
    assert [path.name for path in folder.parent.iterdir()] == ["toy"]


def test_what_a_screen_would_obey_is_spelt_out(tmp_path: Path) -> None:
    bundle = write(tmp_path / "toy", name="toy\x1b]0;title\x07\ngraph forged: x", version="1\r", created_utc="\x9b2K")
    lines = list(describe(bundle))
    assert lines[0].startswith("toy\\x1b]0;title\\x07\\ngraph forged: x 1\\r, made \\x9b2K, sha256")
    assert all(line.isprintable() for line in lines)
