"""The cache of engines: what it gives back, what it refuses, and how it says why."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from toy_bundle import GRAPH, write

from edge_sdk.bundle import default_bundle, open_bundle
from edge_sdk.engine import EngineCache, EngineKey, EngineRecord, Wanted, default_cache, graph_hashes, graph_name
from edge_sdk.engine.shapes import Lengths, ShapeProfile
from edge_sdk.errors import EngineError

ENGINE = bytes(range(256)) * 40
PROFILE = ShapeProfile(name="student", lengths={"streams": Lengths(smallest=1, best=1, largest=4)})
KEY = EngineKey(
    graph="student",
    graph_sha256="a" * 64,
    weights_sha256="b" * 64,
    flavour="trt",
    version="10.3.0",
    sm=87,
    multiprocessors=16,
    driver="12.6",
    precision="float32",
    profiles=(PROFILE,),
    level=3,
)
WANTED = Wanted(
    graph="student",
    graph_sha256=KEY.graph_sha256,
    weights_sha256=KEY.weights_sha256,
    flavour="trt",
    version="10.3.0",
    sm=87,
    multiprocessors=16,
    driver="12.6",
)

# A writer of the same engine that is killed when its bytes are on the disk.
KILLED = """
import os, signal, sys
from pathlib import Path
import msgspec
from edge_sdk.engine import cache
cache.sha256_of = lambda path: os.kill(os.getpid(), signal.SIGKILL)
key = msgspec.json.decode(sys.argv[2], type=cache.EngineKey)
cache.EngineCache(Path(sys.argv[1])).write(key, bytes(1000), built_utc="2026-01-01T00:00:00Z", build_s=1.0)
"""


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    found = EngineCache(tmp_path / "engines")
    found.write(KEY, ENGINE, built_utc="2026-01-01T00:00:00Z", build_s=1.0)
    return found


@pytest.mark.parametrize("given", ["cache", "./cache", "../cache", "~/cache", "", None])
def test_only_an_absolute_path_moves_the_users_cache(
    given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if given is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert default_cache().folder == tmp_path / "home/.cache/edge-sdk/engines"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "moved"))
    assert default_cache().folder == tmp_path / "moved/edge-sdk/engines"


def test_an_engine_is_found_by_its_key_alone(cache: EngineCache) -> None:
    path = cache.find(KEY)
    assert path is not None
    assert path.read_bytes() == ENGINE
    for change in ({"level": 5}, {"sm": 110}, {"multiprocessors": 8}, {"profiles": ()}, {"precision": "float32+tf32"}):
        assert cache.find(msgspec.structs.replace(KEY, **change)) is None


def test_a_damaged_engine_is_refused(cache: EngineCache) -> None:
    path = cache.find(KEY)
    assert path is not None
    path.write_bytes(ENGINE[:-1] + b"!")
    with pytest.raises(
        EngineError, match=r"bytes with SHA-256.*build it again: .* --runtime trt --graph student --rebuild"
    ):
        cache.find(KEY)
    path.write_bytes(ENGINE[:100])
    with pytest.raises(EngineError, match="found 100 bytes"):
        cache.usable(WANTED)


def test_an_engine_that_is_replaced_takes_its_kernels_along(cache: EngineCache) -> None:
    path = cache.find(KEY)
    assert path is not None
    cache.mark_verified(KEY)
    path.with_suffix(".kernels").write_bytes(b"of the first")
    assert cache.write(KEY, b"another", built_utc="2026-01-02T00:00:00Z", build_s=1.0) == path
    assert cache.find(KEY) == path
    assert path.read_bytes() == b"another"
    assert [record.verified for record in cache.records()] == [False]
    assert not path.with_suffix(".kernels").exists()


def test_a_replacement_that_does_not_reach_the_disk_leaves_the_engine(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("edge_sdk.engine.cache.sync", full)
    with pytest.raises(OSError, match="No space left"):
        cache.write(KEY, b"another", built_utc="2026-01-02T00:00:00Z", build_s=1.0)
    path = cache.find(KEY)
    assert path is not None
    assert path.read_bytes() == ENGINE


def test_an_engine_that_was_deleted_by_hand_is_not_there(cache: EngineCache) -> None:
    """Its record is left."""
    path = cache.find(KEY)
    assert path is not None
    path.unlink()
    assert cache.find(KEY) is None
    assert list(cache.records()) == []
    with pytest.raises(EngineError, match="no engine for the graph 'student'"):
        cache.usable(WANTED)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sm": 110}, "built for sm_87, here is sm_110"),
        ({"multiprocessors": 8}, "built for 16 multiprocessors, here are 8: another board, or another power mode"),
        ({"version": "10.16.2"}, "built by version 10.3.0, here is 10.16.2"),
        ({"driver": "13.2"}, "built under driver 12.6, here is 13.2"),
        ({"weights_sha256": "c" * 64}, "the weights have changed"),
        ({"flavour": "rtx"}, "built by runtime trt, needed for rtx"),
    ],
)
def test_an_engine_for_something_else_says_what_differs(cache: EngineCache, change: dict[str, str], words: str) -> None:
    assert cache.usable(WANTED)[1].key == KEY
    with pytest.raises(EngineError, match=f"student.*does not fit.*{words}.*run: edge-sdk build"):
        cache.usable(msgspec.structs.replace(WANTED, **change))


def test_an_empty_cache_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no engine for the graph 'student' is in .*; run: edge-sdk build"):
        EngineCache(tmp_path / "nowhere").usable(WANTED)


def test_an_engine_for_any_gpu_serves_this_one_and_the_newest_wins(cache: EngineCache) -> None:
    anywhere = msgspec.structs.replace(KEY, sm=None, driver=None, multiprocessors=None)
    path = cache.write(anywhere, b"newer", built_utc="2026-01-02T00:00:00Z", build_s=1.0)
    assert cache.usable(WANTED)[0] == path
    assert cache.usable(msgspec.structs.replace(WANTED, sm=120, driver="13.2", multiprocessors=170))[0] == path


def test_the_engine_that_was_chosen_last_is_taken_whatever_the_clock_says(cache: EngineCache) -> None:
    other = msgspec.structs.replace(KEY, level=5)
    cache.write(other, b"other", built_utc="1970-01-01T00:00:00Z", build_s=1.0)
    assert cache.usable(WANTED)[1].key == other
    cache.choose(KEY)
    assert cache.usable(WANTED)[1].key == KEY
    cache.mark_verified(other)
    assert cache.usable(WANTED)[1].key == KEY
    written = {path.name: path.stat().st_mtime_ns for path in cache.folder.iterdir()}
    cache.choose(KEY)
    assert {path.name: path.stat().st_mtime_ns for path in cache.folder.iterdir()} == written
    cache.choose(other)
    assert cache.usable(WANTED)[1].key == other


def test_of_records_without_a_choice_the_newest_is_taken(cache: EngineCache) -> None:
    other = msgspec.structs.replace(KEY, level=5)
    cache.write(other, b"other", built_utc="2025-12-31T00:00:00Z", build_s=1.0)
    for path in cache.folder.glob("*.json"):
        fields = json.loads(path.read_text())
        del fields["chosen"]
        path.write_text(json.dumps(fields))
    assert cache.usable(WANTED)[1].key == KEY
    cache.choose(other)
    assert cache.usable(WANTED)[1].key == other


def test_one_engine_can_be_asked_for(cache: EngineCache) -> None:
    other = msgspec.structs.replace(KEY, level=5)
    cache.write(other, b"other", built_utc="2026-01-02T00:00:00Z", build_s=1.0)
    for key in (KEY, other):
        assert cache.usable(WANTED, key.digest)[1].key == key
    cache.set_aside(other)
    with pytest.raises(EngineError, match="edge-sdk build"):
        cache.usable(WANTED, other.digest)
    foreign = msgspec.structs.replace(WANTED, sm=110)
    with pytest.raises(EngineError, match="built for sm_87, here is sm_110"):
        cache.usable(foreign, KEY.digest)


@pytest.mark.parametrize("built_on_a_gpu", [True, False])
def test_an_engine_whose_multiprocessors_were_not_counted(cache: EngineCache, built_on_a_gpu: bool) -> None:
    """One that was built on a GPU is refused with the reason; one for any GPU needs no count and keeps its name."""
    cache.set_aside(KEY)
    fields = msgspec.to_builtins(KEY)
    del fields["multiprocessors"]
    if not built_on_a_gpu:
        fields |= {"sm": None, "driver": None}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    name = f"student.{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    (cache.folder / f"{name}.engine").write_bytes(ENGINE)
    record = {"sha256": hashlib.sha256(ENGINE).hexdigest(), "size_bytes": len(ENGINE), "build_s": 1.0}
    record |= {"key": fields, "built_utc": "2026-01-01T00:00:00Z"}
    (cache.folder / f"{name}.json").write_text(json.dumps(record))
    if built_on_a_gpu:
        with pytest.raises(EngineError, match="built for an unknown number of multiprocessors, here are 16"):
            cache.usable(WANTED)
        assert cache.find(KEY) is None
    else:
        assert cache.usable(WANTED)[0].stem == name


def test_an_engine_that_was_set_aside_is_kept_but_never_found(cache: EngineCache) -> None:
    cache.mark_verified(KEY)
    assert [record.verified for record in cache.records()] == [True]
    path = cache.find(KEY)
    assert path is not None
    path.with_suffix(".kernels").write_bytes(b"its kernels")
    kept = cache.set_aside(KEY)
    assert kept.read_bytes() == ENGINE
    assert list(cache.folder.iterdir()) == [kept]
    assert cache.find(KEY) is None
    assert list(cache.records()) == []
    cache.write(KEY, b"another", built_utc="2026-01-02T00:00:00Z", build_s=1.0)
    assert not kept.exists()


def test_an_engine_of_another_builder_is_refused_and_one_without_a_revision_is_of_the_first(cache: EngineCache) -> None:
    (path,) = cache.folder.glob("*.json")
    assert "revision" not in json.loads(path.read_text())["key"]
    assert msgspec.structs.replace(KEY, revision=1).digest == KEY.digest
    assert cache.usable(WANTED)[1].key.revision == 1
    later = msgspec.structs.replace(WANTED, revision=2)
    with pytest.raises(
        EngineError, match=r"built by revision 1 of this SDK's builder, here is 2\); run: edge-sdk build"
    ):
        cache.usable(later)
    assert cache.find(msgspec.structs.replace(KEY, revision=2)) is None


def test_a_record_without_its_engine_or_with_rubbish_is_passed_over(cache: EngineCache) -> None:
    (cache.folder / "other.0000000000000000.engine").write_bytes(b"engine")
    (cache.folder / "other.0000000000000000.json").write_text("{not json")
    assert [record.key for record in cache.records()] == [KEY]


def test_what_a_killed_build_left_goes_with_the_next_one(cache: EngineCache) -> None:
    words = [sys.executable, "-c", KILLED, str(cache.folder), msgspec.json.encode(KEY).decode()]
    assert subprocess.run(words, check=False).returncode == -9
    (left,) = cache.folder.glob(".*")
    assert left.stat().st_size == 1000
    young = left.with_name(left.name.replace(KEY.graph, "young"))
    young.touch()
    long_ago_s = time.time() - 3600
    os.utime(left, (long_ago_s, long_ago_s))
    cache.write(KEY, ENGINE, built_utc="2026-01-02T00:00:00Z", build_s=1.0)
    assert list(cache.folder.glob(".*")) == [young]
    assert cache.usable(WANTED)[0].read_bytes() == ENGINE


@pytest.mark.parametrize("name", ["../../outside/x", "/abs/x", "..", "a/b"])
def test_no_engine_is_written_found_or_removed_outside_of_the_cache(
    cache: EngineCache, tmp_path: Path, name: str
) -> None:
    key = msgspec.structs.replace(KEY, graph=name)
    for use in (cache.find, cache.set_aside, cache.record, cache.mark_verified):
        with pytest.raises(EngineError, match=rf"found {name!r}.*another name"):
            use(key)
    with pytest.raises(EngineError, match="another name"):
        cache.write(key, ENGINE, built_utc="2026-01-01T00:00:00Z", build_s=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["engines"]


def test_a_record_that_speaks_of_another_engine_is_passed_over(cache: EngineCache) -> None:
    """One that was put there by hand must not lead to a file elsewhere."""
    (path,) = cache.folder.glob("*.json")
    record = msgspec.json.decode(path.read_bytes(), type=EngineRecord)
    elsewhere = msgspec.structs.replace(record, key=msgspec.structs.replace(KEY, graph="../../outside/x"))
    path.write_bytes(msgspec.json.encode(elsewhere))
    assert list(cache.records()) == []
    with pytest.raises(EngineError, match=r"no engine for the graph .*run: edge-sdk build"):
        cache.usable(WANTED)


def test_hashes_are_of_the_files(tmp_path: Path) -> None:
    graph, path = open_bundle().graph("student")
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(path.read_bytes())
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert graph_hashes(path)[0] == graph_hashes(copy)[0] == expected
    assert default_bundle() in path.parents
    assert graph.file.endswith(".onnx")


def test_a_graph_is_called_as_its_bundle_calls_it(tmp_path: Path) -> None:
    bundle = write(tmp_path / "toy", graphs={"crash.student": GRAPH}, student=None)
    _, path = bundle.graph("crash.student")
    assert (path.name, graph_name(path)) == ("student.onnx", "crash.student")
    outside = tmp_path / "alone.onnx"
    outside.write_bytes(path.read_bytes())
    assert graph_name(outside) == "alone"


def test_a_record_is_json_that_tells_everything(cache: EngineCache) -> None:
    text = next(cache.folder.glob("*.json")).read_bytes()
    record = msgspec.json.decode(text, type=EngineRecord)
    assert record.key == KEY
    assert record.sha256 == hashlib.sha256(ENGINE).hexdigest()
