"""`edge-sdk export`: from a checkpoint to a language bundle; `export/pipeline.py` does the work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_sdk.errors import ConfigError
from edge_sdk.files import check_new
from edge_sdk.registry import open_room
from edge_sdk.types import Value

_MB = 1e6


class ExportReport(Value, frozen=True, kw_only=True):
    """The result of an export.

    `parts` are the bundle's bytes by stage. `stages` are the wall-clock seconds of the stages made in this run, and
    `processor_s` their processor seconds; `reused` are the stages that an earlier run had finished. `peak_mb` is the
    largest sum of RssAnon and RssShmem, sampled every 50 ms, in 10^6 bytes; None if the system does not report it.
    """

    bundle: str
    sha256: str
    size_bytes: int
    parts: dict[str, int]
    stages: dict[str, float]
    processor_s: dict[str, float]
    reused: tuple[str, ...]
    seconds: float
    peak_mb: float | None


def export_bundle(
    checkpoint: Path,
    out: Path,
    *,
    adapters: tuple[str, ...] = (),
    merge: tuple[str, ...] = (),
    recipe: str | None = None,
    work: Path | None = None,
    student: Path | None = None,
    # Any: see Manifest.provenance.
    provenance: Mapping[str, Any] | None = None,
    keep: bool = False,
    quiet: bool = False,
    # Any: fields of the export room's recipe, which judges them.
    **changes: Any,
) -> ExportReport:
    """Export the checkpoint in the folder `checkpoint` to the bundle `out`.

    `adapters` have the form NAME=DIR. `work` keeps finished stages until the bundle is written, and longer with `keep`;
    its default is `out` with `.work` appended to its name. `student` is a bundle whose student is added to `out`.
    `provenance` is added to the provenance that the export itself records. Raises `ConfigError` for invalid settings, a
    full disk, a `work` inside `out`, or if `out` exists; `CheckpointError` for weights that are incomplete or do not
    fit; `BundleError` for an invalid `student`.
    """
    order = open_room("export.export_recipe").settle(
        checkpoint, adapters=adapters, merge=merge, recipe=recipe, **changes
    )
    report: ExportReport = open_room("export.pipeline").run_export(
        order, out, work=work, student=student, provenance=provenance, keep=keep, quiet=quiet
    )
    return report


def work_folder(out: Path, work: Path | None) -> Path:
    """Return the folder for finished stages of the bundle `out`: `work`, or `out` with `.work` appended to its name.

    Raises `ConfigError` if `out` exists, and for a folder that would create `out` before the bundle is written.
    """
    check_new(out)
    place = work or out.with_name(f"{out.name}.work")
    bundle, stages = out.resolve(), place.resolve()
    if bundle in (stages, *stages.parents):
        raise ConfigError(f"--work {place} is the bundle's own folder {out}, or inside it; choose one outside it")
    return place


def describe(report: ExportReport) -> str:
    """Describe a report in lines for people."""
    rows = [f"{name:24} {size / _MB:>10,.1f} MB  {_spent(report, name)}" for name, size in report.parts.items()]
    peak = f", peak memory {report.peak_mb:,.0f} MB (RssAnon + RssShmem)" if report.peak_mb else ""
    whole = f"bundle {report.bundle}: {report.size_bytes / _MB:,.1f} MB in {report.seconds:.0f} s{peak}"
    return "\n".join([*rows, whole, f"sha256 {report.sha256}"])


def _spent(report: ExportReport, stage: str) -> str:
    if stage in report.reused:
        return "used again"
    return f"{report.stages[stage]:.1f} s" if stage in report.stages else "copied"
