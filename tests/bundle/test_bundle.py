"""Bundles: every way in which one may be wrong is its own error, and writing leaves a whole bundle or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from toy_bundle import GRAPH, STUDENT, Edit, edit, files, onnx_bytes, refused, write

from edge_sdk.bundle import Bundle
from edge_sdk.errors import (
    BundleChangedFileError,
    BundleError,
    BundleKeyError,
    BundleMissingFileError,
    BundleNameError,
    BundlePathError,
    BundleSchemaError,
    BundleUnlistedFileError,
    BundleUnreadableError,
    UnknownNameError,
)


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


def test_a_folder_whose_name_is_no_text_is_refused(folder: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(folder) + b"\xff"))
    folder.rename(odd)
    with pytest.raises(BundleError, match=r"must be UTF-8, found b'.*\\xff'; rename the folder"):
        Bundle.open(odd)


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
    "a\nb",
    "a\x1b[2Kb",
    "a\x7f",
    "a\x9b2Kb",
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


@pytest.mark.parametrize("name", ["../../outside/x", "/abs/x", "", ".hidden", "a/b", "a\\b", "a\n", "é", "-x", "a b"])
def test_a_graph_whose_name_could_not_be_a_files(folder: Path, tmp_path: Path, name: str) -> None:
    edit(folder, lambda document: document["graphs"].update({name: document["graphs"]["student"]}))
    refused(folder, BundleNameError, "$.graphs", repr(name), "give that graph another name")
    with pytest.raises(BundleNameError):
        write(tmp_path / "other", graphs={"student": GRAPH, name: GRAPH})
    assert not (tmp_path / "other").exists()


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
    refused(folder, BundleSchemaError, f"schema {schema}", "wheel")


@pytest.mark.parametrize("schema", [0, -1])
def test_a_schema_that_never_was(folder: Path, schema: int) -> None:
    edit(folder, lambda document: document.update(schema=schema))
    refused(folder, BundleSchemaError, f"schema {schema}")


# A buffer whose index the graph itself would hand on from call to call.
COUNTED_IN = [
    {"name": "past", "dtype": "float32", "shape": [8]},
    {"name": "at", "dtype": "int64", "shape": [1]},
]
COUNTED_OUT = [{**COUNTED_IN[0], "name": "new"}, {**COUNTED_IN[1], "name": "next"}]
COUNTED = [
    {"in": "past", "out": "new", "kind": "append", "axis": 0, "index": "at"},
    {"in": "at", "out": "next", "kind": "alias"},
]


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
        (lambda d: d["student"].update(cpu_graph="fast"), ["$.student.cpu_graph", "'fast'", "student"]),
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
        (
            lambda d: d["graphs"]["student"].update(inputs=COUNTED_IN, outputs=COUNTED_OUT, state=COUNTED),
            ["$.graphs.student.state", "state 'past'", "'at' is itself a state", "given in every call"],
        ),
    ],
)
def test_a_wrong_key_is_named_with_its_place(folder: Path, change: Edit, words: list[str]) -> None:
    edit(folder, change)
    refused(folder, BundleKeyError, "manifest.json", *words)


@pytest.mark.parametrize(
    ("key", "wrong", "limit"),
    [
        ("rate_hz", 0, "> 0"),
        ("rate_hz", -1, "> 0"),
        ("rate_hz", 1e300, "<= 1000"),
        ("height", 0, ">= 1"),
        ("height", -96, ">= 1"),
        ("height", 10**30, "<="),
        ("width", 0, ">= 1"),
        ("width", 16_385, "<= 16384"),
        ("lags", [], ">= 1"),
        ("lags", [1, 0], ">= 1"),
        ("lags", [1, 10**9], "<= 1000"),
        ("heat_delay_frames", -1, ">= 0"),
        ("heat_delay_frames", 10**9, "<= 1000"),
        ("confirm_frames", 0, ">= 1"),
        ("confirm_frames", 10**9, "<= 1000"),
    ],
)
def test_a_number_that_no_stream_could_use(folder: Path, key: str, wrong: object, limit: str) -> None:
    def set_it(document: dict[str, Any]) -> None:
        student = document["student"]
        (student["operating_point"] if key == "confirm_frames" else student)[key] = wrong

    edit(folder, set_it)
    refused(folder, BundleKeyError, "manifest.json", key, limit)


@pytest.mark.parametrize("length", [0, -3])
def test_a_tensor_without_elements(folder: Path, length: int) -> None:
    edit(folder, lambda document: document["graphs"]["student"]["inputs"][0].update(shape=["n", length]))
    refused(folder, BundleKeyError, "manifest.json", "$.graphs[...].inputs[0].shape[1]", ">= 1")


@pytest.mark.parametrize("place", ["provenance", "rate_hz"])
def test_a_number_too_large_for_a_float(folder: Path, place: str) -> None:
    manifest = folder / "manifest.json"
    text = manifest.read_text()
    old = '"f1": 0.5' if place == "provenance" else '"rate_hz": 10.0'
    assert old in text
    manifest.write_text(text.replace(old, f"{old.partition(':')[0]}: 1e999"))
    refused(folder, BundleKeyError, "manifest.json")


def opens(folder: Path) -> bool:
    try:
        Bundle.open(folder)
    except BundleKeyError:
        return False
    return True


def test_nesting_of_any_depth_opens_or_is_refused(folder: Path) -> None:
    edit(folder, lambda document: document.update(provenance={"a": None}))
    text = (folder / "manifest.json").read_text()

    def opens_with(depth: int) -> bool:
        (folder / "manifest.json").write_text(text.replace('"a": null', f'"a": {"[" * depth}{"]" * depth}'))
        return opens(folder)

    shallow, deep = 100, 1_500
    assert opens_with(shallow)
    assert not opens_with(deep)
    while deep - shallow > 1:  # the first depth that is too much may be read, but not be written again
        middle = (shallow + deep) // 2
        shallow, deep = (middle, deep) if opens_with(middle) else (shallow, middle)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", ["expected a JSON document, but it cannot be read"]),
        (b"{", ["expected a JSON document, but it cannot be read"]),
        (b"[]", ["expected a JSON object, found list"]),
        (b'{"schema": 1, "name": "\xe9"}', ["utf-8"]),
        (b'{"schema": 1, "name": "a", "name": "b"}', ["'name'", "twice"]),
        (b'{"schema": 1, "provenance": {"a": {"b": 1, "b": 2}}}', ["'b'", "twice"]),
        (b'{"schema": 1, "provenance": {"f1": NaN}}', ["NaN"]),
        (b'{"schema": ' + b"1" * 5000 + b"}", ["expected a JSON document, but it cannot be read"]),
        (b'{"schema": 1, "provenance": ' + b"[" * 100_000, ["expected a JSON document, but it cannot be read"]),
        (b'{"schema": 1, "name": "' + b"a" * (4 << 20) + b'"}', ["expected a manifest of at most", "found more"]),
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
    refused(tmp_path / "nowhere", BundleUnreadableError, "nowhere")
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


def test_the_toy_is_a_graph_that_onnx_accepts(folder: Path) -> None:
    model = onnx.load(folder / "graphs/student.onnx")
    onnx.checker.check_model(model)
    assert model.graph.initializer[0].raw_data == np.arange(12, dtype=np.float32).tobytes()
