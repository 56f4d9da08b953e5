"""Atomic writing: what stood there before stays whole until the new is whole."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from edge_sdk import files
from edge_sdk.errors import ConfigError
from edge_sdk.files import (
    atomic_folder,
    atomic_path,
    check_new,
    half_written_files,
    remove_half_written,
    sha256_of,
    sync,
    write_bytes,
    write_json,
    write_text,
)

# Replaces a folder and is killed before its n-th step on the disk. A step is what Python tells its audit hooks of.
KILLED = """
import os, sys
from pathlib import Path
from edge_sdk import files
target, left, exchange = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
def hook(event, _):
    global left
    if event in ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
        left -= 1
        if left < 0:
            os._exit(9)
if not exchange:
    files._exchange = lambda a, b: False
with files.atomic_folder(target, overwrite=True) as stage:
    (stage / "a").write_text("new")
    (stage / "b").write_text("new")
    sys.addaudithook(hook)
"""

# Replaces a folder over and over, each time interrupted before another step, and prints whether it was told of that.
INTERRUPTED = """
import sys
from itertools import count
from pathlib import Path
from edge_sdk import files
root, exchange = Path(sys.argv[1]), sys.argv[2] == "True"
left = None
def hook(event, _):
    global left
    if left is not None and event in ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
        left -= 1
        if left < 0:
            left = None
            raise KeyboardInterrupt
if not exchange:
    files._exchange = lambda a, b: False
sys.addaudithook(hook)
for step in count():
    target = root / str(step) / "out"
    target.mkdir(parents=True)
    for name in "ab":
        (target / name).write_text("old")
    told = False
    try:
        with files.atomic_folder(target, overwrite=True) as stage:
            (stage / "a").write_text("new")
            (stage / "b").write_text("new")
            left = step
    except KeyboardInterrupt:
        told = True
    print("told" if told else "done")
    if left is not None:
        break
"""
DEAD = "99999999-0123abcd"


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, as Linux has it")
@pytest.mark.parametrize("copied", [True, False])
def test_a_full_disk_names_what_was_to_be_written(tmp_path: Path, copied: bool) -> None:
    """The outermost of what is written; a copy names the file that it reads by itself, a write none."""
    (tmp_path / "read.bin").write_bytes(b"read")

    def fill() -> None:
        with atomic_folder(tmp_path / "bundle") as folder, atomic_path(folder / "part.bin") as stage:
            stage.write_bytes(b"half")
            if copied:
                shutil.copyfile(tmp_path / "read.bin", "/dev/full")
            Path("/dev/full").write_bytes(b"more")

    with pytest.raises(OSError, match="No space left") as full:
        fill()
    assert str(full.value) == f"[Errno 28] No space left on device: {str(tmp_path / 'bundle')!r}"
    assert names(tmp_path) == ["read.bin"]


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


@pytest.fixture(params=[True, False], ids=["exchanged", "moved aside"])
def exchange(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether two names can change places; where this system cannot, only the other way is tested."""
    if not request.param:
        monkeypatch.setattr(files, "_exchange", lambda a, b: False)
        return False
    names = [tmp_path / name for name in "xy"]
    for name in names:
        name.mkdir()
    if not files._exchange(*names):
        pytest.skip("this system or file system cannot exchange two names")
    for name in names:
        name.rmdir()
    return True


@pytest.mark.usefixtures("exchange")
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
    monkeypatch.setattr(files, "_exchange", lambda a, b: False)
    real = Path.rename

    def fail_for_the_stage(source: Path, target: Path) -> Path:
        if ".tmp-" in source.name:
            raise error
        return real(source, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_stage)
    with pytest.raises(error), atomic_folder(tmp_path / "out", overwrite=True) as stage:
        (stage / "new").touch()
    assert names(tmp_path / "out") == ["old"]
    assert names(tmp_path) == ["out"]


def whole(folder: Path) -> bool:
    return names(folder) == ["a", "b"] and len({(folder / name).read_text() for name in "ab"}) == 1


def test_a_folder_is_whole_whenever_the_power_fails(tmp_path: Path, exchange: bool) -> None:
    for step in count():
        target = tmp_path / str(step) / "out"
        target.mkdir(parents=True)
        for name in "ab":
            (target / name).write_text("old")
        words = [sys.executable, "-c", KILLED, str(target), str(step), str(exchange)]
        code = subprocess.run(words, check=False).returncode
        assert not exchange or whole(target), f"killed before step {step}"
        remove_half_written(target.parent, "out")
        assert whole(target), f"killed before step {step}"
        assert names(target.parent) == ["out"]
        if code == 0:
            break
        assert code == 9
    assert (target / "a").read_text() == "new"
    assert step >= 3


def test_who_is_told_of_an_interruption_has_the_old_folder(tmp_path: Path, exchange: bool) -> None:
    words = [sys.executable, "-c", INTERRUPTED, str(tmp_path), str(exchange)]
    outcomes = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    for step, outcome in enumerate(outcomes):
        parent = tmp_path / str(step)
        assert whole(parent / "out"), f"interrupted before step {step}"
        assert (parent / "out" / "a").read_text() == ("old" if outcome == "told" else "new"), f"step {step}"
        assert outcome == "done" or names(parent) == ["out"], f"step {step}"
        with atomic_folder(parent / "out", overwrite=True):
            pass
        assert names(parent) == ["out"], f"step {step}"
    assert outcomes[-1] == "done"
    assert len(outcomes) >= 4
    assert exchange or outcomes[0] == "told"


def test_what_a_killed_writer_left_goes_before_the_next_writes(tmp_path: Path) -> None:
    for name in (f"out.tmp-{DEAD}", f"out.tmp-{os.getpid()}-0123abcd", f"other.tmp-{DEAD}"):
        (tmp_path / name).mkdir()
    with atomic_folder(tmp_path / "out"):
        assert len(names(tmp_path)) == 2
    assert names(tmp_path) == [f"other.tmp-{DEAD}", "out"]


def test_what_a_killed_writer_put_aside_has_its_name_back_before_the_next_writes(tmp_path: Path) -> None:
    (tmp_path / f"out.old-{DEAD}").mkdir()
    (tmp_path / f"out.old-{DEAD}" / "old").touch()
    with pytest.raises(ConfigError, match="exists already"), atomic_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["old"]


def test_a_folder_whose_number_no_process_can_have_is_left_over(tmp_path: Path) -> None:
    (tmp_path / f"out.tmp-{10**30}-0123abcd").mkdir()
    remove_half_written(tmp_path)
    assert names(tmp_path) == []


def test_what_this_process_is_writing_is_not_left_over(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as stage, atomic_path(tmp_path / "file.bin") as file:
        file.touch()
        remove_half_written(tmp_path)
        assert stage.is_dir()
        assert list(half_written_files(tmp_path)) == []
    assert names(tmp_path) == ["file.bin", "out"]


def test_without_posix_age_decides_and_no_process_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: int, number: int) -> None:
        raise AssertionError(f"process {process} was sent {number}")

    monkeypatch.setattr(files, "_POSIX", False)
    monkeypatch.setattr(os, "kill", refuse)
    young, old, at_work = (f"{name}.tmp-{DEAD}" for name in ("young", "old", "at_work"))
    for name in (young, old, at_work):
        (tmp_path / name).mkdir()
    (tmp_path / at_work / "deep").mkdir()
    (tmp_path / at_work / "deep" / "weights").touch()
    for place in (tmp_path / old, tmp_path / at_work / "deep", tmp_path / at_work):
        os.utime(place, (0, 0))
    remove_half_written(tmp_path)
    assert names(tmp_path) == [at_work, young]


def test_what_a_killed_writer_left_is_known_by_its_name(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as alive:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        left = {f".x.tmp-{dead.pid}-0123abcd.engine", f".x.y.tmp-{dead.pid}-0123abcd"}
        others = {f".x.tmp-{alive.pid}-0123abcd.engine", "x.engine", f"x.tmp-{dead.pid}-0123abcd", ".x.tmp-1.engine"}
        for name in left | others:
            (tmp_path / name).touch()
        (tmp_path / f".f.tmp-{dead.pid}-0123abcd").mkdir()
        assert {path.name for path in half_written_files(tmp_path)} == left
        alive.communicate(b"\n")


@pytest.mark.parametrize("target", ["out", None])
def test_only_the_folders_of_one_target_are_removed_where_it_is_named(tmp_path: Path, target: str | None) -> None:
    mine, other = (f"{name}.tmp-99999999-0123abcd" for name in ("out", "other"))
    for name in (mine, other, "out.tmp-x", "out"):
        (tmp_path / name).mkdir()
    remove_half_written(tmp_path, target)
    assert names(tmp_path) == sorted(["out", "out.tmp-x", *([other] if target else [])])


def test_a_link_to_a_folder_stays_one_when_the_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / "old").touch()
    link = tmp_path / "current"
    link.symlink_to("v2")
    with atomic_folder(link, overwrite=True) as stage:
        (stage / "new").touch()
    assert link.is_symlink()
    assert [path.name for path in (tmp_path / "v2").iterdir()] == ["new"]
    assert {path.name for path in tmp_path.iterdir()} == {"v2", "current"}


def cached_pages(path: Path) -> float:
    """The share of a file's pages that the page cache holds, by the kernel's `mincore`."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as data:
        pages = (ctypes.c_ubyte * -(-len(data) // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(data)
        assert ctypes.CDLL(None).mincore(ctypes.byref(first), ctypes.c_size_t(len(data)), pages) == 0
        del first
        return sum(page & 1 for page in pages) / len(pages)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what the page cache holds")
@pytest.mark.parametrize("read", [sync, sha256_of], ids=["written", "hashed"])
def test_a_large_file_leaves_the_page_cache_where_a_gpu_may_share_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    monkeypatch.setattr(files, "_MEMORY_MAY_BE_SHARED", False)
    small.write_bytes(bytes(1 << 20))
    large.write_bytes(bytes((64 << 20) + 1))
    for path in (large, small):
        sync(path)  # a page that is not on the disk stays
        read(path)
        assert cached_pages(path) > 0.9
    with large.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached_pages(large) > 0.1:
        pytest.skip("this file system keeps its files in memory")
    assert len(large.read_bytes()) > 64 << 20
    assert cached_pages(large) > 0.9
    monkeypatch.setattr(files, "_MEMORY_MAY_BE_SHARED", True)
    for path in (large, small):
        read(path)
    assert cached_pages(large) < 0.1
    assert cached_pages(small) > 0.9
    monkeypatch.delattr(os, "posix_fadvise")
    read(large)


def test_json_is_indented_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, 2.5], "c": "é"})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "b": [\n    1,\n    2.5\n  ],\n  "c": "é"\n}\n'.encode()
    write_json(tmp_path / "a.json", {"b": 1}, indent=1)
    assert (tmp_path / "a.json").read_bytes() == b'{\n "b": 1\n}\n'


def test_what_exists_is_not_new(tmp_path: Path) -> None:
    check_new(tmp_path / "new")
    with pytest.raises(ConfigError, match="exists already; choose another folder or remove it"):
        check_new(tmp_path)
