"""Export a checkpoint to a language bundle, stage by stage.

Everything that headers tell is checked first, and the memory and disk needed are stated before a byte is written.
Finished stages stay in the work folder until the bundle is complete, so that a stopped run resumes where it was. The
bundle hard-links their files, so that the disk holds each weight once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch

from edge_sdk import __version__
from edge_sdk.bundle import Bundle, write_bundle
from edge_sdk.bundle.student_part import StudentPart, student_part
from edge_sdk.console import Progress, say
from edge_sdk.export.adapters import Adapter
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.export_needs import check_disk, describe, needs_of, same_disk
from edge_sdk.export.export_recipe import Order
from edge_sdk.export.language_files import pixel_constants
from edge_sdk.export.language_plan import LanguagePlan, Pixels
from edge_sdk.export.language_stages import TEXT_STAGE, language_stages, read_references, reference_stage
from edge_sdk.export.peak_memory import PeakMemory
from edge_sdk.export.stage_store import Receipt, Stage, StageStore, disk_errors
from edge_sdk.files import remove_half_written
from edge_sdk.toolchain.exporting import ExportReport, work_folder

# A bundle is hashed when written and again when opened: 73 s for 16 GB that took 110 s to write.
_HASHING_EFFORT = 2 / 3
# The key that only the provenance of a quantised bundle has.
_ROUNDS = "quantise"
P = TypeVar("P", bound=LanguagePlan)


@dataclass(frozen=True)
class Prepared:
    """What to make: the plan, all stages in order with the references last, and extra provenance."""

    plan: LanguagePlan
    stages: Sequence[Stage]
    # Any: see Manifest.provenance.
    provenance: Mapping[str, Any] = field(default_factory=dict)


Prepare = Callable[[Order, Path], Prepared]
"""From an order and the work folder; nothing but headers is read."""


def prepare_export(order: Order, work: Path) -> Prepared:
    """Prepare an export of the checkpoint's weights, unquantised, in the order's element type."""
    plan = open_plan(order, LanguagePlan)
    stages = list(language_stages(order, plan))
    return Prepared(plan, [*stages, reference_stage(plan, stages, work / TEXT_STAGE)])


def open_plan(order: Order, make: Callable[[Order, Checkpoint, dict[str, Adapter], tuple[Pixels, Pixels]], P]) -> P:
    """Open checkpoint and adapters from their headers, and refuse those that do not fit together."""
    folder = Path(order.checkpoint)
    checkpoint = Checkpoint.open(folder)
    projector = order.recipe.base_projector
    adapters = {name: Adapter.open(Path(each), base_projector=projector) for name, each in order.adapters.items()}
    return make(order, checkpoint, adapters, pixel_constants(folder))


def run_export(
    order: Order,
    out: Path,
    *,
    work: Path | None = None,
    student: Path | None = None,
    # Any: see Manifest.provenance.
    provenance: Mapping[str, Any] | None = None,
    keep: bool = False,
    quiet: bool = False,
    prepare: Prepare = prepare_export,
) -> ExportReport:
    """Export `order` to the bundle `out`; see `toolchain.exporting.export_bundle`. `prepare` decides what is made."""
    began_s = time.monotonic()
    place = work_folder(out, work)
    with PeakMemory() as memory:
        prepared = prepare(order, place)
        part = student_part(student) if student else None
        extra = {**prepared.provenance, **(provenance or {})}
        export = _Export(order, replace(prepared, provenance=extra), part, out, place, quiet)
        with StageStore.locked(place) as store:
            bundle = export.run(store)
            if not keep:
                store.clear()
    return ExportReport(
        bundle=str(out),
        sha256=bundle.sha256,
        size_bytes=sum(entry.size_bytes for entry in bundle.manifest.files.values()),
        parts=export.parts(),
        stages=export.seconds,
        processor_s=export.processor_s,
        reused=tuple(export.reused),
        seconds=time.monotonic() - began_s,
        peak_mb=memory.mb,
    )


class _Export:
    """One run, whose inputs have been checked to fit."""

    def __init__(
        self, order: Order, prepared: Prepared, student: StudentPart | None, out: Path, work: Path, quiet: bool
    ) -> None:
        self._order, self._plan, self._student = order, prepared.plan, student
        self._out, self._work, self._quiet = out, work, quiet
        self._stages, self._extra = list(prepared.stages), prepared.provenance
        self._references = self._stages[-1]
        self._receipts: dict[str, Receipt] = {}
        self.seconds: dict[str, float] = {}
        self.processor_s: dict[str, float] = {}
        self.reused: list[str] = []

    def run(self, store: StageStore) -> Bundle:
        """Make the stages that are missing, then the bundle."""
        todo = self._todo(store)
        self._state_needs(todo, sum(map(store.reclaimable, todo)))
        hashing = int(_HASHING_EFFORT * sum(stage.size_bytes for stage in self._stages))
        total, done = 1 + hashing + sum(stage.effort for stage in todo), 0
        with Progress("export, %:", quiet=self._quiet) as progress:
            for stage in todo:
                self._make(store, stage, progress, done, total)
                done += stage.effort
            progress(100 * done // total, 100, "bundle")
            with self._timed("bundle"):
                bundle = self._write(store)
            progress(100, 100, "done")
        return bundle

    def parts(self) -> dict[str, int]:
        """Bytes in the bundle by stage, and of the student."""
        parts = {
            name: sum(output.size_bytes for path, output in receipt.outputs.items() if _in_bundle(path))
            for name, receipt in self._receipts.items()
        }
        return parts | ({"student": self._student_bytes} if self._student else {})

    @property
    def _student_bytes(self) -> int:
        return sum(len(data) for data in self._student.files.values()) if self._student else 0

    def _todo(self, store: StageStore) -> list[Stage]:
        todo = []
        for stage in self._stages:
            if receipt := store.receipt(stage):
                self._receipts[stage.name] = receipt
                self.reused.append(stage.name)
            else:
                todo.append(stage)
        return todo

    def _state_needs(self, todo: list[Stage], freed: int) -> None:
        linked = same_disk(self._work, self._out)
        needs = needs_of(self._plan, todo, self._stages, self._student_bytes, freed=freed, linked=linked)
        if not self._quiet:
            for line in describe(self._plan, needs, self._work, self._out, rounds=_ROUNDS in self._extra):
                say(line)
            if self.reused:
                say(f"finished before, used again: {', '.join(self.reused)}")
        check_disk(needs, self._work, self._out)

    def _make(self, store: StageStore, stage: Stage, progress: Progress, before: int, total: int) -> None:
        def on_bytes(done: int) -> None:
            progress(100 * (before + min(done, stage.effort)) // total, 100, stage.name)

        on_bytes(0)
        with self._timed(stage.name):
            self._receipts[stage.name] = store.make(stage, on_bytes)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began_s, spent_s = time.monotonic(), time.process_time()
        yield
        self.seconds[stage], self.processor_s[stage] = time.monotonic() - began_s, time.process_time() - spent_s

    def _write(self, store: StageStore) -> Bundle:
        student, recipe = self._student, self._order.recipe
        references = read_references(store.place(self._references))
        graphs, language = references.apply(self._plan.entries(), self._plan.component())
        with disk_errors("bundle", self._out, sum(stage.size_bytes for stage in self._stages)):
            self._out.parent.mkdir(parents=True, exist_ok=True)
            remove_half_written(self._out.parent, self._out.name)
            return write_bundle(
                self._out,
                name=recipe.name or self._out.name,
                version=recipe.version,
                graphs=graphs | (student.graphs if student else {}),
                files=self._files(store) | (student.files if student else {}),
                student=student.student if student else None,
                language=language,
                demo=student.demo if student else None,
                provenance={**_provenance(self._order, self._plan, student), **self._extra},
                link=True,
            )

    def _files(self, store: StageStore) -> dict[str, Path | bytes]:
        """The bundle's files by their paths."""
        made = [(stage, path) for stage in self._stages for path in self._receipts[stage.name].outputs]
        return {path: store.place(stage) / path for stage, path in made if _in_bundle(path)}


def _in_bundle(path: str) -> bool:
    """Whether a stage's file goes into the bundle; a file outside the stage's sub-folders does not."""
    return "/" in path


# Any: see Manifest.provenance.
def _provenance(order: Order, plan: LanguagePlan, student: StudentPart | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "checkpoint": {"name": Path(order.checkpoint).resolve().name, "layout": plan.checkpoint.layout.name},
        "adapters": {name: _describe_adapter(each, plan) for name, each in plan.adapters.items()},
        "recipe": msgspec.to_builtins(order.recipe),
        "made_with": {"edge_sdk": __version__, "torch": str(torch.__version__)},
    }
    return found | ({"student": student.provenance} if student else {})


def _describe_adapter(adapter: Adapter, plan: LanguagePlan) -> dict[str, Any]:
    config = adapter.config
    return {
        "name": adapter.folder.resolve().name,
        "base": config.base,
        "rank": config.rank,
        "scale": config.scale,
        "linears": adapter.linears,
        "form": "switchable" if plan.recipe.switchable else "merged",
        "dropped_vision_pairs": adapter.dropped,
    }
