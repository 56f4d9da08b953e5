"""What goes wrong in long work: broken inputs, full disks, Ctrl-C, a second run; one clear error, nothing half-made."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import pytest
import torch
from checkpoint_makers import make_model, save_adapter, tune
from pipeline_runs import QUICK_WORDS, adapters, content, export, make_inputs
from safetensors.torch import load_file, save_file

from edge_sdk.bundle import Bundle
from edge_sdk.errors import CheckpointError, ConfigError
from edge_sdk.export.stage_store import StageStore

STAGES = ("tokenizer", "embedding", "vision", "projector.base", "decoder", "graphs", "references", "bundle")
SHARD = "model-00002-of-00003.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def whole(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of an export that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    export(inputs / "base", out)
    return content(out)


@pytest.fixture
def base(inputs: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint, to be broken; links, but for what is replaced."""
    shutil.copytree(inputs / "base", tmp_path / "base", copy_function=os.link)
    return tmp_path / "base"


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def place(base: Path, tensor: str, shard: str) -> None:
    index = json.loads((base / INDEX).read_text())
    index["weight_map"][tensor] = shard
    replace(base / INDEX, json.dumps(index).encode())


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (lambda base: replace(base / SHARD, (base / SHARD).read_bytes()[:-1]), f"{SHARD}.*whole"),
        (lambda base: replace(base / SHARD, b""), f"{SHARD}.*whole"),
        (lambda base: (base / SHARD).unlink(), f"{SHARD}.*not there"),
        (lambda base: place(base, "lm_head.weight", "model-00009-of-00003.safetensors"), "model-00009.*not there"),
        (lambda base: place(base, "model.ghost.weight", SHARD), "ghost"),
        (lambda base: replace(base / "config.json", b"{"), r"config\.json.*JSON"),
        (lambda base: shutil.rmtree(base), "expected a checkpoint's folder"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused_from_its_headers(
    base: Path, tmp_path: Path, breaking: Callable[[Path], Any], message: str
) -> None:
    breaking(base)
    with pytest.raises(CheckpointError, match=message):
        export(base, tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if path != base]


def test_an_adapter_of_another_base_is_refused_from_its_header(inputs: Path, tmp_path: Path) -> None:
    text = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24}
    other = make_model(text, {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 40}, layers=2,
                       vocabulary=64, tied=False, seed=3)  # fmt: skip
    save_adapter(tune(other), tmp_path / "other")
    for settings in ({}, {"switchable": True}):
        with pytest.raises(CheckpointError, match="give the base that the adapter was trained on"):
            export(inputs / "base", tmp_path / "out", adapters=adapters(tmp_path, "other"), **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_nan_is_named_and_what_was_finished_is_used_again(base: Path, tmp_path: Path, whole: dict[str, str]) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    shard = base / json.loads((base / INDEX).read_text())["weight_map"][name]
    good = shard.read_bytes()
    state = load_file(shard)
    state[name][3, 5] = torch.nan
    shard.unlink()
    save_file(state, shard)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=rf"{shard.name}, tensor {name}.*NaN"):
            export(base, tmp_path / "out")
        assert stages_in(tmp_path / "out.work") == {"tokenizer", "embedding", "vision", "projector.base"}
    replace(shard, good)
    assert export(base, tmp_path / "out").reused == ("tokenizer",)
    assert content(tmp_path / "out") == whole


def test_tokenizer_files_of_another_model(base: Path, tmp_path: Path) -> None:
    words = json.loads((base / "vocab.json").read_text())
    replace(base / "vocab.json", json.dumps(dict(list(words.items())[:-9])).encode())
    with pytest.raises(CheckpointError, match="must have id"):
        export(base, tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if path != base]


def test_a_second_run_in_one_folder_is_refused(inputs: Path, tmp_path: Path) -> None:
    with StageStore.locked(tmp_path / "out.work"):
        with pytest.raises(ConfigError, match=r"out\.work is in use by another export"):
            export(inputs / "base", tmp_path / "out")
        assert (tmp_path / "out.work" / ".lock").is_file()
    assert not list(tmp_path.iterdir())


def stages_in(work: Path) -> set[str]:
    """What is in the work folder; whatever a stage had half-written would be here too."""
    return {path.name for path in work.glob("*")} - {".lock"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of so many megabytes; skips where that is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(megabytes: int) -> Path:
        words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)]
        made = subprocess.run(words, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
        return folder

    if shutil.which("mount") is None:
        pytest.skip("no mount command here to make a small disk with")
    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


def test_too_small_a_disk_is_refused_before_anything_is_written(
    inputs: Path, tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(8)
    numbers = r"[\d.]+ MB are needed on this disk, 8\.\d MB are free"
    with pytest.raises(ConfigError, match=f"{numbers}.*--work"):
        export(inputs / "base", disk / "out")
    with pytest.raises(ConfigError, match=f"{numbers}.*--out"):
        export(inputs / "base", disk / "out", work=tmp_path / "work")
    assert not list(disk.iterdir())
    assert not (tmp_path / "work").exists()


class Reaction(io.TextIOBase):
    """Standard error that does something when the progress line names a stage."""

    def __init__(self, stage: str, act: Callable[[], None]) -> None:
        self._stage, self._act = stage, act

    def write(self, text: str) -> int:
        if text.rstrip().endswith(f" {self._stage}"):
            self._act()
        return len(text)


def fill(disk: Path) -> None:
    """Take all that is free, the last page too."""
    with (disk / "hog").open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


def test_a_disk_that_fills_up_at_any_stage(
    inputs: Path,
    whole: dict[str, str],
    small_disk: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = small_disk(128)
    finished: set[str] = set()
    for stage in STAGES:
        monkeypatch.setattr(sys, "stderr", Reaction(stage, lambda: fill(disk)))
        what = "bundle" if stage == "bundle" else f"stage {stage}"
        with pytest.raises(
            ConfigError, match=rf"^{what}: the disk of {disk}\S+ is full: \S+ MB are needed there, \S+ MB"
        ):
            export(inputs / "base", disk / "out", quiet=False)
        (disk / "hog").unlink()
        assert stages_in(disk / "out.work") == finished
        assert [path.name for path in disk.iterdir()] == (["out.work"] if finished else [])
        finished.add(stage)
    monkeypatch.undo()
    assert set(export(inputs / "base", disk / "out").stages) == {"bundle"}
    assert content(disk / "out") == whole
    assert [path.name for path in disk.iterdir()] == ["out"]


def test_work_and_bundle_on_two_disks(
    inputs: Path, tmp_path: Path, whole: dict[str, str], small_disk: Callable[[int], Path]
) -> None:
    export(inputs / "base", tmp_path / "out", work=small_disk(128) / "work")
    assert content(tmp_path / "out") == whole
    assert not list((tmp_path / "disk").iterdir())


INTERRUPTED = """
import io, json, os, signal, sys
from pathlib import Path
from edge_sdk.cli import main

class Watch(io.TextIOBase):
    def __init__(self, stage):
        self.stage = stage
    def write(self, text):
        if text.rstrip().endswith(" " + self.stage):
            os.kill(os.getpid(), signal.SIGINT)
        return len(text)

signal.signal(signal.SIGINT, signal.default_int_handler)
work = Path(sys.argv[2])
words = sys.argv[3:]
for stage in sys.argv[1].split(","):
    sys.stderr, sys.argv = Watch(stage), ["edge-sdk", *words]
    try:
        main()
    except SystemExit as left:
        print(json.dumps([stage, left.code, sorted(path.name for path in work.glob('*'))]), flush=True)
"""


def test_ctrl_c_at_every_stage(inputs: Path, tmp_path: Path, whole: dict[str, str]) -> None:
    """A real signal in a real process, sent when the progress line names the stage."""
    words = ["export", str(inputs / "base"), "--out", str(tmp_path / "out"), *QUICK_WORDS]
    run = [sys.executable, "-c", INTERRUPTED, ",".join(STAGES), str(tmp_path / "out.work"), *words]
    result = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    seen = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("[")]
    assert [stage for stage, _, _ in seen] == list(STAGES)
    for done, (_, code, names) in enumerate(seen):
        assert code == 130
        assert set(names) == ({".lock", *STAGES[:done]} if done else set())
    assert [path.name for path in tmp_path.iterdir()] == ["out.work"]
    assert set(export(inputs / "base", tmp_path / "out").stages) == {"bundle"}
    assert content(tmp_path / "out") == whole


BEGUN = """
import signal
from edge_sdk.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
print("begun", flush=True)
main()
"""


def begin(inputs: Path, out: Path) -> subprocess.Popen[str]:
    """An export in a process of its own, which minds Ctrl-C even where its parent does not."""
    words = [sys.executable, "-c", BEGUN, "export", str(inputs / "base"), "--out", str(out), *QUICK_WORDS]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(stream: TextIO | None, word: str) -> None:
    assert stream is not None
    assert any(word in line for line in stream), f"{word} was never said"


@pytest.mark.parametrize("stage", ["tokenizer", "references"])
def test_a_killed_run_is_taken_up(inputs: Path, tmp_path: Path, whole: dict[str, str], stage: str) -> None:
    with begin(inputs, tmp_path / "out") as run:
        wait_for(run.stderr, f" {stage}")
        run.send_signal(signal.SIGKILL)
    (tmp_path / "out.tmp-99999999-0123abcd").mkdir()  # of a run that was killed while the bundle was written
    finished = stages_in(tmp_path / "out.work") & set(STAGES)
    assert finished >= set(STAGES[: STAGES.index(stage)])
    assert set(export(inputs / "base", tmp_path / "out").reused) == finished
    assert content(tmp_path / "out") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_ctrl_c_at_any_moment(inputs: Path, tmp_path: Path, whole: dict[str, str]) -> None:
    """Signals at growing delays, from when the command begins to its end."""
    out, codes = tmp_path / "out", list[int]()
    while not out.exists():
        shutil.rmtree(tmp_path / "out.work", ignore_errors=True)
        with begin(inputs, out) as run:
            wait_for(run.stdout, "begun")
            try:
                run.wait(0.15 * (len(codes) + 1))
            except subprocess.TimeoutExpired:
                run.send_signal(signal.SIGINT)
            errors = run.communicate(timeout=60)[1]
        codes.append(run.returncode)
        assert "Traceback" not in errors
        assert not [*tmp_path.glob("*.tmp-*"), *tmp_path.glob("out.work/*.tmp-*")]
    assert content(Bundle.open(out).folder) == whole
    assert set(codes[:-1]) == {130}
    assert len(codes) > 5
