"""Atomic writing: what stood there before stays whole until the new is whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.files import atomic_folder, atomic_path, write_bytes, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "deep" / "a.png") as stage:
        assert stage.suffix == ".png"
        stage.write_bytes(b"half")
        assert not (tmp_path / "deep" / "a.png").exists()
        stage.write_bytes(b"whole")
    assert (tmp_path / "deep" / "a.png").read_bytes() == b"whole"
    assert names(tmp_path / "deep") == ["a.png"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_write_keeps_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    write_text(tmp_path / "a.txt", "öld")

    def fail() -> None:
        with atomic_path(tmp_path / "a.txt") as stage:
            stage.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "öld"
    assert names(tmp_path) == ["a.txt"]


def test_a_body_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.txt", b"old")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        pass
    assert (tmp_path / "a.txt").read_bytes() == b"old"


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "deep" / "out") as stage:
        (stage / "sub").mkdir()
        (stage / "sub" / "a").write_bytes(b"1")
        assert not (tmp_path / "deep" / "out").exists()
    assert (tmp_path / "deep" / "out" / "sub" / "a").read_bytes() == b"1"
    assert names(tmp_path / "deep") == ["out"]


def test_a_folder_that_exists_is_replaced_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(ConfigError, match="exists already"), atomic_folder(tmp_path / "out"):
        pass
    with atomic_folder(tmp_path / "out", overwrite=True) as stage:
        (stage / "new").touch()
    assert names(tmp_path / "out") == ["new"]
    assert names(tmp_path) == ["out"]


def test_a_folder_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    def race() -> None:
        with atomic_folder(tmp_path / "out") as stage:
            (stage / "mine").touch()
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs").touch()

    with pytest.raises(ConfigError, match="exists already"):
        race()
    assert names(tmp_path / "out") == ["theirs"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_the_old_folder_comes_back_when_the_last_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    real = os.rename

    def fail_for_the_stage(source: Path, target: Path) -> None:
        if ".tmp-" in Path(source).name:
            raise error
        real(source, target)

    monkeypatch.setattr(os, "rename", fail_for_the_stage)
    with pytest.raises(error), atomic_folder(tmp_path / "out", overwrite=True) as stage:
        (stage / "new").touch()
    assert names(tmp_path / "out") == ["old"]
    assert names(tmp_path) == ["out"]
