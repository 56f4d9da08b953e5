"""Stages on disk: whole or not there, made once, and for one run at a time."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.export.stage_store import HASHED_BYTES, OnBytes, Stage, StageStore

HOLDER = """
import sys, time
from pathlib import Path
from edge_sdk.export.stage_store import Stage, StageStore
def make(folder, on_bytes):
    (folder / "half").write_bytes(b"half")
    print("held", flush=True)
    time.sleep(60)
with StageStore.locked(Path(sys.argv[1])) as store:
    store.make(Stage("weights", {}, 4, make), lambda done: None)
"""


def stage(text: str = "text", **inputs: object) -> Stage:
    def make(folder: Path, on_bytes: OnBytes) -> None:
        (folder / "language").mkdir()
        (folder / "language" / "file").write_text(text)
        on_bytes(len(text))

    return Stage("weights", inputs, len(text), make)


@pytest.fixture
def store(tmp_path: Path) -> StageStore:
    with StageStore.locked(tmp_path / "work") as found:
        found.make(stage(dtype="float16"), lambda done: None)
        return found


def test_a_finished_stage_is_known_by_its_inputs(store: StageStore) -> None:
    assert store.receipt(stage(dtype="float16")) is not None
    assert store.receipt(stage(dtype="float32")) is None
    assert store.receipt(stage()) is None


@pytest.mark.parametrize("damage", ["", "tex", "texx", "longer text"])
def test_a_changed_file_is_seen(store: StageStore, damage: str) -> None:
    (store.place(stage()) / "language" / "file").write_text(damage)
    assert store.receipt(stage(dtype="float16")) is None


def test_a_missing_file_or_a_torn_receipt_is_seen(store: StageStore) -> None:
    receipt = store.place(stage()) / "receipt.json"
    text = receipt.read_text()
    receipt.write_text(text[: len(text) // 2])
    assert store.receipt(stage(dtype="float16")) is None
    receipt.write_text(text)
    (store.place(stage()) / "language" / "file").unlink()
    assert store.receipt(stage(dtype="float16")) is None


def test_gigabytes_are_known_by_size_and_time(tmp_path: Path) -> None:
    def make(folder: Path, on_bytes: OnBytes) -> None:
        with (folder / "large").open("wb") as file:
            file.truncate(HASHED_BYTES + 1)

    large = Stage("large", {}, HASHED_BYTES + 1, make)
    with StageStore.locked(tmp_path / "work") as store:
        receipt = store.make(large, lambda done: None)
        assert receipt.outputs["large"].sha256 is None
        assert store.receipt(large) is not None
        (store.place(large) / "large").touch()
        assert store.receipt(large) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(5, "Input/output error"), ValueError])
def test_a_stage_that_fails_leaves_nothing(tmp_path: Path, error: type[BaseException] | BaseException) -> None:
    def make(folder: Path, on_bytes: OnBytes) -> None:
        (folder / "half").write_bytes(b"half")
        raise error

    expected = ConfigError if isinstance(error, OSError) else error
    with StageStore.locked(tmp_path / "work") as store, pytest.raises(expected):  # type: ignore[arg-type]
        store.make(Stage("weights", {}, 4, make), lambda done: None)
    assert not list(tmp_path.iterdir())


def test_a_second_run_is_refused_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    work = tmp_path / "work"
    words = [sys.executable, "-c", HOLDER, str(work)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="in use by another export"), StageStore.locked(work):
            pass
        assert len(list(work.glob("weights.tmp-*/half"))) == 1
        holder.send_signal(signal.SIGKILL)
    with StageStore.locked(work) as store:
        # What the killed run had half-written is gone.
        assert [path.name for path in work.iterdir()] == [".lock"]
        store.make(stage(), lambda done: None)
    assert (work / "weights" / "language" / "file").read_text() == "text"


def test_what_removing_a_stage_would_free(store: StageStore, tmp_path: Path) -> None:
    file = store.place(stage()) / "language" / "file"
    receipt = (store.place(stage()) / "receipt.json").stat().st_size
    assert store.reclaimable(stage()) == len("text") + receipt
    (tmp_path / "bundle").hardlink_to(file)
    assert store.reclaimable(stage()) == receipt


def test_a_folder_of_a_stages_name_that_is_no_stage_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "work" / "weights"
    mine.mkdir(parents=True)
    (mine / "precious").write_text("mine")
    with StageStore.locked(tmp_path / "work") as store, pytest.raises(ConfigError, match="is not a stage"):
        store.make(stage(), lambda done: None)
    assert (mine / "precious").read_text() == "mine"


def test_a_stage_of_other_inputs_gives_way(store: StageStore) -> None:
    store.make(stage("newer", dtype="float32"), lambda done: None)
    assert (store.place(stage()) / "language" / "file").read_text() == "newer"
    assert store.receipt(stage(dtype="float16")) is None
    assert sorted(path.name for path in store.folder.iterdir()) == [".lock", "weights"]


def test_what_another_put_into_the_folder_stays(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "mine").mkdir(parents=True)
    with StageStore.locked(work) as store:
        store.make(stage(), lambda done: None)
        store.clear()
    assert sorted(path.name for path in work.iterdir()) == [".lock", "mine"]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="work folder"), StageStore.locked(tmp_path / "file" / "work"):
        pass
