"""Results of long runs as files: what was found, when, of which commit, on what machine and beside what other work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from edge_sdk.benchmarks.conditions import Watch, commit
from edge_sdk.benchmarks.report import MachineState

PACKAGES = ("torch", "transformers", "peft", "onnx", "onnxruntime")


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One JSON file of results; `what` says in a sentence how it was made."""

    what: str
    date_utc: str
    commit: str | None
    machine: MachineState
    found: Any


def write_measured(folder: Path, name: str, what: str, watch: Watch, found: Any, lines: Iterable[str]) -> None:
    """Write `name.json` and, with `lines` of Markdown behind the same facts, `name.md`."""
    versions = {package: version(package) for package in PACKAGES}
    measured = Measured(
        what=what,
        date_utc=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        commit=commit(Path(__file__).parent),
        machine=watch.state(versions),
        found=found,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(measured)) + b"\n")
    head = [f"# {what}", "", *_conditions(measured, versions), ""]
    (folder / f"{name}.md").write_text("\n".join([*head, *lines]) + "\n")


def table(head: str, rows: Iterable[Iterable[object]]) -> list[str]:
    """Markdown of a table; `head` is its first line without the outer bars."""
    columns = head.split("|")
    return [
        f"| {head} |",
        "|" + "---|" * len(columns),
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def _conditions(measured: Measured, versions: Mapping[str, str]) -> list[str]:
    machine = measured.machine
    other = "unknown" if machine.other_cores is None else f"{machine.other_cores:.1f} cores"
    return [
        f"{measured.date_utc}, commit {measured.commit}, {machine.cores} cores of {machine.cpu_model}; "
        f"other work beside: {other}.",
        ", ".join(f"{package} {number}" for package, number in versions.items()) + ".",
    ]
