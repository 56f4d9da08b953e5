"""Exports of small checkpoints, as short as an export can be: one profile, one dialect, one cache size."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from checkpoint_makers import save, save_adapter, tune
from language_bundles import speaking_model
from toy_tokenizer import write_checkpoint_files

from edge_sdk.toolchain.exporting import ExportReport, export_bundle

QUICK: dict[str, Any] = {"profiles": ("96f",), "dialects": ("native",), "slots": (2048,), "dtype": "float32"}
QUICK_WORDS = ("--profile", "96f", "--dialect", "native", "--slots", "2048", "--dtype", "float32")


def make_inputs(folder: Path, *, tied: bool = False) -> tuple[Any, dict[str, Any]]:
    """`base` in three shards, and the adapters `linguistic` and `perception`; the model and the tuned ones."""
    model = speaking_model(tied=tied)
    save(model, folder / "base", "videollama3", "sharded")
    write_checkpoint_files(folder / "base")
    tuned = {"linguistic": tune(model, rank=4, seed=1), "perception": tune(model, rank=3, seed=2)}
    for name, each in tuned.items():
        save_adapter(each, folder / name)
    return model, tuned


def adapters(folder: Path, *names: str) -> tuple[str, ...]:
    return tuple(f"{name}={folder / name}" for name in names)


def export(base: Path, out: Path, **settings: Any) -> ExportReport:
    return export_bundle(base, out, **(QUICK | {"quiet": True} | settings))


def content(bundle: Path) -> dict[str, str]:
    """SHA-256 of every file but the manifest, which says when it was made."""
    files = [path for path in bundle.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {path.relative_to(bundle).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
