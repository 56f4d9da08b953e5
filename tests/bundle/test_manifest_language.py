"""The language component of a manifest: a whole one opens, and one thing wrong gives one error that names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from toy_bundle import GRAPH, edit, files, refused, write

from edge_sdk.bundle import Bundle, write_bundle
from edge_sdk.bundle.manifest import ReferenceCase
from edge_sdk.bundle.manifest_language import (
    Adapter,
    ChainReference,
    Compression,
    DecoderGraph,
    DecoderSet,
    Embedding,
    Language,
    VisionProfile,
)
from edge_sdk.bundle.model_sizes import DecoderSizes, VisionSizes
from edge_sdk.errors import BundleKeyError, BundleMissingFileError, BundlePathError

SIZES = DecoderSizes(layers=1, hidden=4, heads=1, kv_heads=1, head_dim=4, intermediate=8, vocab=3)
LANGUAGE = Language(
    model="toy",
    dtype="float16",
    vision=VisionSizes(),
    decoder=SIZES,
    patch=14,
    pixel_mean=(0.5, 0.5, 0.5),
    pixel_std=(0.5, 0.5, 0.5),
    embedding=Embedding(file="language/table.bin", dtype="float16", vocab=3, hidden=4),
    tokenizer="language/tokenizer.json",
    prompts="language/prompts.json",
    image_token=2,
    end_tokens=(1,),
    compression=Compression(),
    profiles={
        "96f": VisionProfile(
            frames=96, rate_hz=10.0, width=364, height=196, graphs={"native": "student", "decomposed": "student"}
        )
    },
    decoders={"base": DecoderSet(graphs=(DecoderGraph(dialect="native", slots=8, graph="student"),), lora_rank=2)},
    adapters={
        "linguistic": Adapter(
            projector={"native": "student"},
            decoder="base",
            lora="language/lora.safetensors",
            tasks=("recognition", "cause"),
            reference=ChainReference(file="reference/chain.safetensors", profile="96f", max_relative_error=0.1),
        )
    },
)
FILES: dict[str, Path | bytes] = {
    "language/table.bin": bytes(24),
    "language/tokenizer.json": b"{}",
    "language/prompts.json": b"{}",
    "language/lora.safetensors": b"x",
    "reference/chain.safetensors": b"x",
    "reference/student.safetensors": b"x",
}
CASE = ReferenceCase(
    file="reference/student.safetensors", inputs_from="language/lora.safetensors", max_relative_error=0.1
)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    graphs = {"student": msgspec.structs.replace(GRAPH, reference=CASE)}
    return write(tmp_path / "language", language=LANGUAGE, graphs=graphs, files=files() | FILES).folder


def set_at(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        inner: Any = document["language"]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


def test_a_whole_component_opens_as_it_was_written(whole: Path) -> None:
    manifest = Bundle.open(whole).manifest
    assert manifest.language == LANGUAGE
    assert manifest.graphs["student"].reference == CASE
    assert json.loads((whole / "manifest.json").read_text())["language"]["compression"] == {
        "min_tokens": 1,
        "threshold": 0.1,
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("profiles", "96f", "graphs", "native"), "vision"),
        (("decoders", "base", "graphs", 0, "graph"), "decoder"),
        (("adapters", "linguistic", "projector", "native"), "projector"),
        (("adapters", "linguistic", "decoder"), "other"),
        (("adapters", "linguistic", "tasks"), ["recognition", "weather"]),
        (("adapters", "linguistic", "reference", "profile"), "12f"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_name_that_nothing_has_is_one_error(whole: Path, path: tuple[str | int, ...], value: Any) -> None:
    edit(whole, set_at(*path, value=value))
    name = value[-1] if isinstance(value, list) else value
    where = "$.language." + ".".join(str(key) for key in path if not isinstance(key, int) and key != "graph")
    refused(whole, BundleKeyError, where.removesuffix(".native"), f"unknown name {name!r}", "known: ")


@pytest.mark.parametrize(
    "path",
    [
        ("embedding", "file"),
        ("tokenizer",),
        ("prompts",),
        ("adapters", "linguistic", "lora"),
        ("adapters", "linguistic", "reference", "file"),
    ],
    ids=".".join,
)
def test_a_file_that_the_manifest_does_not_list_is_one_error(whole: Path, path: tuple[str, ...]) -> None:
    edit(whole, set_at(*path, value="language/other.bin"))
    refused(whole, BundleKeyError, f"$.language.{'.'.join(path)}", "'language/other.bin' is not in $.files")
    edit(whole, set_at(*path, value="../other.bin"))
    refused(whole, BundlePathError, f"$.language.{'.'.join(path)}", "leaves the folder")


def test_a_file_of_more_inputs_must_be_listed(whole: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["graphs"]["student"]["reference"]["inputs_from"] = "language/other.safetensors"

    edit(whole, change)
    refused(whole, BundleKeyError, "$.graphs.student.reference.inputs_from", "not in $.files")


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_is_gone_is_one_error(whole: Path, name: str) -> None:
    (whole / name).unlink()
    refused(whole, BundleMissingFileError, name)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("decoder", "layers"), 1.5, "int"),
        (("patch",), 0, ">= 1"),
        (("dtype",), "float8", "float8"),
        (("profiles", "96f", "graphs"), {"vendor": "student"}, "vendor"),
        (("decoders", "base", "lora_rank"), -1, ">= 0"),
        (("adapters", "linguistic", "reference", "max_relative_error"), 0, "> 0"),
        (("compression", "treshold"), 0.2, "treshold"),
        (("pixel_mean",), [0.5, 0.5], "length 3"),
    ],
    ids=["fraction", "zero", "type", "dialect", "rank", "tolerance", "misspelt", "channels"],
)
def test_a_value_of_another_kind_is_one_error(whole: Path, path: tuple[str, ...], value: Any, words: str) -> None:
    edit(whole, set_at(*path, value=value))
    refused(whole, BundleKeyError, words, "$.language")


def test_a_component_without_its_files_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BundleKeyError, match=r"language/table\.bin"):
        write_bundle(tmp_path / "b", name="b", version="1", graphs={"student": GRAPH}, files=files(), language=LANGUAGE)
    assert not list(tmp_path.iterdir())
