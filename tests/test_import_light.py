"""Importing the package costs nothing heavy, and every package shows exactly what it says it shows."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge_sdk

ROOT = Path(__file__).parents[1]
HEAVY = {"PIL", "cryptography", "cv2", "gi", "matplotlib", "mujoco", "nltk", "onnx", "onnxruntime", "onnxscript"}
HEAVY |= {
    "rouge_score",
    "safetensors",
    "scipy",
    "sklearn",
    "tensorrt",
    "tensorrt_rtx",
    "tokenizers",
    "torch",
    "transformers",
}
ROOMS = ("benchmarks", "calibration", "export", "runtimes")


def loaded_by(statement: str) -> set[str]:
    """Top-level packages, and modules of this one, that a fresh interpreter has after `statement`."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    names = done.stdout.split()
    return {name.partition(".")[0] for name in names} | {name for name in names if name.startswith("edge_sdk.")}


@pytest.mark.parametrize(
    "statement",
    [
        "import edge_sdk",
        "import edge_sdk.cli",
        "import edge_sdk.bundle",
        "import edge_sdk.registry",
        "import edge_sdk.cli.doctor",
        "import edge_sdk.explaining",
        "import edge_sdk.unit",
    ],
)
def test_the_ground_loads_nothing_heavy(statement: str) -> None:
    loaded = loaded_by(statement)
    assert loaded.isdisjoint(HEAVY)
    assert loaded.isdisjoint(f"edge_sdk.{room}" for room in ROOMS)


def test_what_is_heavy_would_be_seen() -> None:
    assert "onnxruntime" in loaded_by("from edge_sdk.registry import open_runtime\nopen_runtime('ort')")


def test_the_modules_of_the_readme_are_there_when_they_are_named() -> None:
    named = "import edge_sdk\nedge_sdk.analysis.analyze, edge_sdk.errors.EdgeError, edge_sdk.events.Event"
    assert {"edge_sdk.analysis", "edge_sdk.errors", "edge_sdk.events"} <= loaded_by(named)
    assert "edge_sdk.analysis" not in loaded_by("import edge_sdk")
    with pytest.raises(AttributeError, match="module 'edge_sdk' has no attribute 'nothing'"):
        _ = edge_sdk.nothing  # type: ignore[attr-defined]


def faces() -> dict[str, ast.Module]:
    """The parsed `__init__.py` of every package, of the ground and of the rooms, that says `__all__`."""
    folders = [ROOT / "edge_sdk", *(ROOT / room for room in ROOMS)]
    files = [path for folder in folders for path in folder.rglob("__init__.py")]
    texts = {path.parent.relative_to(ROOT).as_posix(): path.read_text() for path in files}
    return {name: ast.parse(text) for name, text in texts.items() if "__all__" in text}


def bound_names(module: ast.Module) -> Iterator[str]:
    """Public names that running the module binds; what only type checkers see is not among them."""
    for node in module.body:
        if isinstance(node, ast.ImportFrom | ast.Import):
            if not (isinstance(node, ast.ImportFrom) and node.module in ("__future__", "typing")):
                yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def declared_names(module: ast.Module) -> list[str]:
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise AssertionError("__all__ is not a plain assignment")


def test_there_are_packages_to_look_at() -> None:
    assert "edge_sdk/hardware" in faces()


@pytest.mark.parametrize("name", sorted(faces()))
def test_all_is_sorted_and_complete(name: str) -> None:
    module = faces()[name]
    declared = declared_names(module)
    assert declared == sorted(set(declared))
    public = {bound for bound in bound_names(module) if not bound.startswith("_")}
    assert {each for each in declared if not each.startswith("__")} == public
