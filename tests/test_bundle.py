"""Bundles: every way in which one may be wrong is its own error, and writing leaves a whole bundle or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_sdk.bundle import Bundle, rewrite, write_bundle
from edge_sdk.errors import (
    BundleChangedFileError,
    BundleError,
    BundleKeyError,
    BundleMissingFileError,
    BundlePathError,
    BundleSchemaError,
    BundleUnlistedFileError,
    ConfigError,
    UnknownNameError,
)
from edge_sdk.manifest import DemoClip, Graph, OperatingPoint, Student
from edge_sdk.types import StateSpec, TensorSpec

Edit = Callable[[dict[str, Any]], None]

GRAPH = Graph(
    file="graphs/student.onnx",
    dialects=("native", "decomposed"),
    opset=17,
    inputs=(
        TensorSpec(name="x", dtype="float32", shape=("n", 4)),
        TensorSpec(name="s", dtype="float32", shape=("n", 3)),
    ),
    outputs=(
        TensorSpec(name="y", dtype="float32", shape=("n", 3)),
        TensorSpec(name="s2", dtype="float32", shape=("n", 3)),
    ),
    state=(StateSpec(input="s", output="s2", kind="alias"),),
)
STUDENT = Student(
    rate_hz=10.0,
    height=96,
    width=160,
    lags=(1, 4),
    scores=("crash", "pre_crash"),
    heat_delay_frames=5,
    operating_point=OperatingPoint(),
)


def onnx_bytes(location: str = "student.weights") -> bytes:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 3], np.zeros(12, np.float32).tobytes(), raw=True)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Add", ["s", "y"], ["s2"])]
    rows = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("s", "y", "s2")}
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    graph = helper.make_graph(nodes, "toy", [x, rows["s"]], [rows["y"], rows["s2"]], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def files() -> dict[str, Path | bytes]:
    return {
        "graphs/student.onnx": onnx_bytes(),
        "graphs/student.weights": np.arange(12, dtype=np.float32).tobytes(),
        "notes.txt": b"made for a test\n",
    }


def write(folder: Path, **changes: Any) -> Bundle:
    fields: dict[str, Any] = {
        "name": "toy",
        "version": "1",
        "graphs": {"student": GRAPH},
        "student": STUDENT,
        "files": files(),
        "provenance": {"recipe": "toy.toml", "metrics": {"f1": 0.5}},
        "created_utc": "2026-01-02T03:04:05Z",
    }
    return write_bundle(folder, **(fields | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "toy").folder


def edit(folder: Path, change: Edit) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def refused(folder: Path, kind: type[BundleError], *words: str) -> None:
    """Opening raises exactly `kind`, and the message names each of `words`."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder)
    assert type(caught.value) is kind, caught.value
    for word in words:
        assert word in str(caught.value)


def test_what_was_written_is_what_opens(folder: Path) -> None:
    bundle = Bundle.open(folder)
    assert bundle.manifest.graphs["student"] == GRAPH
    assert bundle.manifest.student == STUDENT
    assert bundle.manifest.provenance == {"recipe": "toy.toml", "metrics": {"f1": 0.5}}
    graph, path = bundle.graph("student")
    assert graph == GRAPH
    assert path.read_bytes() == onnx_bytes()
    assert bundle.path("notes.txt").read_bytes() == b"made for a test\n"
    assert bundle.sha256 == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def test_names_that_the_bundle_does_not_have(folder: Path) -> None:
    bundle = Bundle.open(folder)
    with pytest.raises(UnknownNameError, match="student"):
        bundle.graph("vision")
    with pytest.raises(BundleMissingFileError, match=r"other\.txt"):
        bundle.path("other.txt")


def test_paths_survive_a_change_of_directory(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    bundle = Bundle.open(folder.name)
    monkeypatch.chdir("/")
    assert bundle.path("notes.txt").is_file()


def test_the_manifest_text_is_deterministic(tmp_path: Path) -> None:
    a = write(tmp_path / "a")
    b = write(
        tmp_path / "b", files=dict(reversed(files().items())), provenance={"metrics": {"f1": 0.5}, "recipe": "toy.toml"}
    )
    text = (a.folder / "manifest.json").read_text()
    assert text == (b.folder / "manifest.json").read_text()
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=2) + "\n"


def test_formatting_does_not_change_the_digest(folder: Path) -> None:
    before = Bundle.open(folder).sha256
    edit(folder, lambda document: None)
    assert Bundle.open(folder).sha256 == before
    edit(folder, lambda document: document.update(version="2"))
    assert Bundle.open(folder).sha256 != before


@pytest.mark.parametrize("name", sorted(files()))
@pytest.mark.parametrize("seed", range(5))
def test_a_changed_byte_is_caught(folder: Path, name: str, seed: int) -> None:
    chance = random.Random(f"{name} {seed}")
    data = bytearray((folder / name).read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    (folder / name).write_bytes(data)
    refused(folder, BundleChangedFileError, name, "SHA-256")


def test_a_changed_size_is_caught(folder: Path) -> None:
    with (folder / "notes.txt").open("ab") as file:
        file.write(b"!")
    refused(folder, BundleChangedFileError, "notes.txt", "17 bytes", "16")


@pytest.mark.parametrize("name", sorted(files()))
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, BundleMissingFileError, name)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_something_that_is_not_a_file(folder: Path, make: Callable[[Path], None]) -> None:
    (folder / "notes.txt").unlink()
    make(folder / "notes.txt")
    refused(folder, BundleMissingFileError, "notes.txt")


@pytest.mark.parametrize("name", ["extra.bin", "graphs/extra.bin", ".hidden", "new/deep/extra.bin"])
def test_an_unlisted_file(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"")
    refused(folder, BundleUnlistedFileError, name)


BAD_PATHS = [
    "",
    ".",
    "..",
    "../up",
    "a/../../up",
    "a/..",
    "/etc/passwd",
    "a\\b",
    "..\\up",
    "C:up",
    "a//b",
    "a/",
    "./a",
    "a\0b",
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_is_not_plain(folder: Path, path: str) -> None:
    def list_it(document: dict[str, Any]) -> None:
        document["files"][path] = {"sha256": "0" * 64, "size_bytes": 1}

    edit(folder, list_it)
    refused(folder, BundlePathError, "$.files", repr(path))


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_component_that_points_outside(folder: Path, path: str) -> None:
    edit(folder, lambda document: document["graphs"]["student"].update(file=path))
    refused(folder, BundlePathError, "$.graphs.student.file", repr(path))


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_is_not_plain_is_never_written(tmp_path: Path, path: str) -> None:
    with pytest.raises(BundlePathError, match=r"\$\.files"):
        write(tmp_path / "toy", files=files() | {path: b"x"})
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_does_not_vouch_for_itself(folder: Path) -> None:
    entry = {"sha256": "0" * 64, "size_bytes": 1}
    edit(folder, lambda document: document["files"].update({"manifest.json": entry}))
    refused(folder, BundlePathError, "manifest.json")


@pytest.mark.parametrize("inside", [True, False])
def test_a_link_to_a_file(folder: Path, tmp_path: Path, inside: bool) -> None:
    other = (folder / "graphs" if inside else tmp_path) / "elsewhere"
    (folder / "notes.txt").rename(other)
    (folder / "notes.txt").symlink_to(other)
    refused(folder, BundlePathError, "notes.txt", "symbolic link")


def test_a_link_to_a_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "graphs").rename(tmp_path / "elsewhere")
    (folder / "graphs").symlink_to(tmp_path / "elsewhere")
    refused(folder, BundlePathError, "'graphs'", "symbolic link")


@pytest.mark.parametrize("schema", [2, 99])
def test_a_newer_schema_is_told_before_its_keys_are_judged(folder: Path, schema: int) -> None:
    edit(folder, lambda document: document.update(schema=schema, quantisation={}))
    refused(folder, BundleSchemaError, f"schema {schema}", "upgrade")


@pytest.mark.parametrize("schema", [0, -1])
def test_a_schema_that_never_was(folder: Path, schema: int) -> None:
    edit(folder, lambda document: document.update(schema=schema))
    refused(folder, BundleSchemaError, f"schema {schema}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("schema"), ["$.schema"]),
        (lambda d: d.update(schema="1"), ["$.schema", "'1'"]),
        (lambda d: d.update(schema=True), ["$.schema"]),
        (lambda d: d.update(weights=1), ["unknown field `weights`"]),
        (lambda d: d["student"].update(depth=1), ["unknown field `depth`", "$.student"]),
        (
            lambda d: d["graphs"]["student"]["inputs"][1].update(unit="s"),
            ["unknown field `unit`", "$.graphs[...].inputs[1]"],
        ),
        (lambda d: d.pop("name"), ["missing required field `name`"]),
        (lambda d: d["student"].pop("rate_hz"), ["`rate_hz`", "$.student"]),
        (lambda d: d["student"].update(height="96"), ["Expected `int`, got `str`", "$.student.height"]),
        (lambda d: d["graphs"]["student"].update(dialects=["vendor"]), ["'vendor'", "dialects"]),
        (lambda d: d["files"]["notes.txt"].update(sha256="abc"), ["$.files[...].sha256"]),
        (lambda d: d["files"]["notes.txt"].update(size_bytes=-1), ["$.files[...].size_bytes"]),
        (lambda d: d["graphs"]["student"]["state"][0].update(kind="append"), ["needs `axis` and `index`"]),
        (lambda d: d["graphs"]["student"]["state"][0].update({"in": "q"}), ["$.graphs.student.state", "'q'"]),
        (lambda d: d["graphs"]["student"]["state"][0].update(out="q"), ["$.graphs.student.state", "'q'"]),
        (lambda d: d["graphs"]["student"]["state"][0].update({"in": "x"}), ["$.graphs.student.state", "[n, 4]"]),
        (lambda d: d["graphs"]["student"]["state"][0].update(index="s"), ["integer input"]),
        (lambda d: d["graphs"]["student"]["inputs"][1].update(name="x"), ["$.graphs.student.inputs", "twice"]),
        (lambda d: d["student"].update(graph="vision"), ["$.student.graph", "'vision'", "student"]),
        (lambda d: d["graphs"]["student"].update(file="absent.onnx"), ["$.graphs.student.file", "absent.onnx"]),
        (lambda d: d.update(demo={"video": "a.mp4", "record": "notes.txt"}), ["$.demo.video", "a.mp4"]),
        (
            lambda d: d["graphs"]["student"].update(reference={"file": "r.bin", "max_relative_error": 0.1}),
            ["$.graphs.student.reference.file", "r.bin"],
        ),
        (
            lambda d: d["graphs"]["student"].update(reference={"file": "notes.txt", "max_relative_error": 0}),
            ["max_relative_error"],
        ),
    ],
)
def test_a_wrong_key_is_named_with_its_place(folder: Path, change: Edit, words: list[str]) -> None:
    edit(folder, change)
    refused(folder, BundleKeyError, "manifest.json", *words)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", ["not a JSON document"]),
        (b"{", ["not a JSON document"]),
        (b"[]", ["expected a JSON object, found list"]),
        (b'{"schema": 1, "name": "\xe9"}', ["utf-8"]),
        (b'{"schema": 1, "name": "a", "name": "b"}', ["'name'", "twice"]),
        (b'{"schema": 1, "provenance": {"a": {"b": 1, "b": 2}}}', ["'b'", "twice"]),
        (b'{"schema": 1, "provenance": {"f1": NaN}}', ["NaN"]),
        (b'{"schema": ' + b"1" * 5000 + b"}", ["not a JSON document"]),
        (b'{"schema": 1, "provenance": ' + b"[" * 100_000, ["not a JSON document"]),
        (b'{"schema": 1, "name": "' + b"a" * (4 << 20) + b'"}', ["larger than"]),
    ],
    ids=["empty", "truncated", "list", "latin-1", "twice", "twice-inside", "nan", "huge-number", "deep", "huge"],
)
def test_a_manifest_that_is_not_one_json_object(folder: Path, raw: bytes, words: list[str]) -> None:
    (folder / "manifest.json").write_bytes(raw)
    refused(folder, BundleKeyError, "manifest.json", *words)


def test_a_lone_surrogate_is_refused(folder: Path) -> None:
    edit(folder, lambda document: document.update(name="\ud800"))
    refused(folder, BundleKeyError, "manifest.json")


def test_no_manifest_no_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "manifest.json").rename(tmp_path / "manifest.json")
    refused(folder, BundleMissingFileError, "manifest.json")
    refused(tmp_path / "nowhere", BundleMissingFileError, "nowhere")
    refused(folder / "notes.txt", BundleMissingFileError, "notes.txt")
    (folder / "manifest.json").symlink_to(tmp_path / "manifest.json")
    refused(folder, BundleMissingFileError, "manifest.json")


def test_weights_that_the_manifest_does_not_list(tmp_path: Path) -> None:
    without = {name: data for name, data in files().items() if name != "graphs/student.weights"}
    with pytest.raises(BundleUnlistedFileError, match=r"graphs/student\.weights"):
        write(tmp_path / "toy", files=without)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("location", ["../notes.txt", "/etc/passwd", ""])
def test_weights_outside_the_folder(tmp_path: Path, location: str) -> None:
    with pytest.raises(BundlePathError, match="external data"):
        write(tmp_path / "toy", files=files() | {"graphs/student.onnx": onnx_bytes(location)})


@pytest.mark.parametrize("data", [b"not a graph", b"\x3a\xff\xff\x03", onnx_bytes()[:-3]])
def test_a_graph_that_is_no_protobuf(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BundleError, match="not an ONNX file"):
        write(tmp_path / "toy", files=files() | {"graphs/student.onnx": data})


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


def test_the_toy_is_a_graph_that_onnx_accepts(folder: Path) -> None:
    model = onnx.load(folder / "graphs/student.onnx")
    onnx.checker.check_model(model)
    assert model.graph.initializer[0].raw_data == np.arange(12, dtype=np.float32).tobytes()
