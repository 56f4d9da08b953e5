"""A bundle that is opened by a link is the one that the link led to then, wherever it leads later."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from toy_bundle import files, write

from edge_sdk.bundle import Bundle, rewrite
from edge_sdk.bundle import folder as module
from edge_sdk.errors import BundleUnreadableError

NEWER = b"another version\n"


@pytest.fixture
def current(tmp_path: Path) -> Path:
    """A link to the first of two versions."""
    write(tmp_path / "v1")
    write(tmp_path / "v2", version="2", files=files() | {"notes.txt": NEWER})
    link = tmp_path / "current"
    link.symlink_to("v1")
    return link


def move(link: Path) -> None:
    """Let it lead to the other version, by one rename."""
    following = link.with_name("next")
    following.symlink_to("v2")
    following.replace(link)


def test_a_link_that_is_moved_leaves_an_open_bundle_where_it_is(current: Path) -> None:
    bundle = Bundle.open(current)
    move(current)
    assert bundle.path("notes.txt").read_bytes() == files()["notes.txt"]
    assert Bundle.open(bundle.folder) == bundle
    assert Bundle.open(current).path("notes.txt").read_bytes() == NEWER


def test_a_link_above_the_folder_that_is_moved(current: Path, tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        shutil.move(tmp_path / version, tmp_path / "away")
        (tmp_path / version).mkdir()
        shutil.move(tmp_path / "away", tmp_path / version / "bundle")
    bundle = Bundle.open(current / "bundle")
    move(current)
    assert bundle.path("notes.txt").read_bytes() == files()["notes.txt"]


def test_a_link_that_is_moved_while_the_bundle_is_opened(current: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = module.read_manifest

    def read_and_move(root: Path, *admit: Any) -> object:
        found = read(root, *admit)
        move(current)
        return found

    monkeypatch.setattr(module, "read_manifest", read_and_move)
    bundle = Bundle.open(current)
    assert (current / "notes.txt").read_bytes() == NEWER
    assert bundle.path("notes.txt").read_bytes() == files()["notes.txt"]


def test_a_bundle_that_is_rewritten_by_its_link_stays_behind_it(current: Path, tmp_path: Path) -> None:
    new = rewrite(Bundle.open(current), current, version="3", overwrite=True)
    assert current.is_symlink()
    assert Bundle.open(tmp_path / "v1") == Bundle.open(current) == new
    move(current)
    assert Bundle.open(new.folder).manifest.version == "3"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "v1", "v2"]


def test_a_link_that_leads_nowhere_or_round(tmp_path: Path) -> None:
    (tmp_path / "lost").symlink_to("nothing")
    (tmp_path / "round").symlink_to("round")
    for name, told in (("lost", "nothing is not a bundle: there is no such folder"), ("round", "no such folder")):
        with pytest.raises(BundleUnreadableError, match=told):
            Bundle.open(tmp_path / name)
    with pytest.raises(BundleUnreadableError, match=r"'a\\x00b' is not a bundle: embedded null byte; give the folder"):
        Bundle.open("a\0b")
