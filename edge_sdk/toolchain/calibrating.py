"""`edge-sdk calibrate`: from clips to statistics of a checkpoint's activations, or to calibrated answers of a bundle.

`calibration` chooses the clips and judges the answers; `export/quantise` runs the checkpoint.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edge_sdk.bundle import open_bundle
from edge_sdk.console import Progress
from edge_sdk.registry import open_room
from edge_sdk.runtime import SessionOptions
from edge_sdk.types import Value

COUNT = 64


class AnswersReport(Value, frozen=True, kw_only=True):
    """The result of calibrating answers on labelled clips: the bundle `out`, and the quality of the fit by task."""

    out: str
    # Any: `calibration.answer_fits.TaskFit`, a value of a room.
    tasks: dict[str, Any]
    seconds: float


class CalibrationReport(Value, frozen=True, kw_only=True):
    """The result of a calibration: the numbers of clips seen, of crashes among them, and of tokens by decoder.

    Clips of added statistics count too. `kept_out` more clips were kept out of the statistics, to measure on. `device`
    is what computed the statistics.
    """

    out: str
    clips: int
    crashes: int
    kept_out: int
    tokens: dict[str, int]
    device: str
    seconds: float


def calibrate(
    checkpoint: Path,
    clips: Path,
    out: Path,
    *,
    count: int = COUNT,
    frames: int | None = None,
    profile: str | None = None,
    export: str | None = None,
    adapters: tuple[str, ...] = (),
    merge: tuple[str, ...] = (),
    add: tuple[Path, ...] = (),
    device: str = "auto",
    work: Path | None = None,
    quiet: bool = False,
    # Any: fields of the export room's recipe, which judges them.
    **changes: Any,
) -> CalibrationReport:
    """Run `checkpoint` on at most `count` clips of the folder `clips`, and write its activations' statistics to `out`.

    Each clip gives at most `frames` frames of `profile`, by default the recipe's first profile, and every task of each
    adapter is asked about it. `add` are folders of earlier calibrations of the same model on other clips, whose
    statistics are added. Layers are computed on `device`, see `export.device`. `work` keeps finished steps until `out`
    is complete; its default is `out` with `.work` appended to its name. Raises `ConfigError` for invalid settings, too
    few clips, no crash among them, activations that are not finite, a full disk, or if `out` exists; `SourceError` for
    a clip that cannot be decoded; `CheckpointError` for invalid weights; `MissingDependencyError` for a missing device.
    """
    begun_s = time.monotonic()
    where = open_room("export.device").find_device(device)
    order = open_room("export.export_recipe").settle(
        checkpoint, adapters=adapters, merge=merge, recipe=export, **changes
    )
    told = choose_clips(clips, count)
    index = open_room("export.quantise.calibrate").run_calibration(
        order, told, out, profile=profile, frames=frames, work=work, add=add, device=where, quiet=quiet
    )
    return CalibrationReport(
        out=str(out),
        clips=len(index.clips),
        crashes=sum(clip.crash is True for clip in index.clips),
        kept_out=len(index.probes) if index.held_out else 0,
        tokens=index.tokens,
        device=index.device,
        seconds=time.monotonic() - begun_s,
    )


# Any: `export.quantise.statistics.Clip`, a value of a room.
def choose_clips(folder: Path, count: int) -> list[tuple[Path, Any]]:
    """Choose at most `count` clips of `folder`, balanced, with a description of each.

    Raises `ConfigError` for too few clips.
    """
    chosen = open_room("calibration.activation_clips").choose_clips(folder, count)
    clip = open_room("export.quantise.statistics").Clip
    return [
        (path, clip(name=path.name, sha256=each.sha256, crash=each.crash, condition=each.condition))
        for path, each in ((Path(each.path), each) for each in chosen)
    ]


def calibrate_answers(
    bundle: Path,
    clips: Path,
    out: Path,
    *,
    count: int | None = None,
    least: float | None = None,
    runtime: str = "ort",
    device: str = "cpu",
    work: Path | None = None,
    quiet: bool = False,
) -> AnswersReport:
    """Ask the bundle in the folder `bundle` about at most `count` scenes of `clips`, and write it to `out` with fits.

    An answer abstains if its calibrated probability is below `least`, by default one half. `runtime` computes the
    answers; `ort` does so on `device`. `work` keeps answers until `out` is complete; its default is `out` with `.work`
    appended to its name. Raises what `calibration.answers.calibrate_answers` raises.
    """
    begun_s, room = time.monotonic(), open_room("calibration.answers")
    with Progress("ask", quiet=quiet) as progress:
        fits = room.calibrate_answers(
            open_bundle(bundle),
            clips,
            out,
            count=count,
            least=room.LEAST if least is None else least,
            runtime=runtime,
            options=SessionOptions(threads=1, device=device),
            work=work,
            on_progress=progress,
        )
    return AnswersReport(out=str(out), tasks=fits, seconds=time.monotonic() - begun_s)


def describe_answers(report: AnswersReport) -> str:
    """Describe a report for a terminal."""
    lines = [f"{report.out}: what answers are worth, on clips that each fit did not see"]
    for task, fit in report.tasks.items():
        lines.append(f"  {task}: {_fit_in_words(fit)}")
        if fit.with_student is not None:
            lines.append(f"    with the student: {_fit_in_words(fit.with_student)}")
    return "\n".join(lines)


# Any: `calibration.answer_fits.TaskFit`, as above.
def _fit_in_words(fit: Any) -> str:
    inside = "" if fit.coverage is None else f", inside lo..hi {fit.coverage_raw:.0%} -> {fit.coverage:.0%}"
    right = "none" if fit.right_of_given is None else f"{fit.right_of_given:.0%} right"
    return (
        f"{fit.answers} answers, {fit.right:.0%} right; error of probability "
        f"{fit.raw.ece.value:.3f} -> {fit.fitted.ece.value:.3f}; given {fit.given:.0%}, {right}{inside}"
    )


def describe(report: CalibrationReport) -> str:
    """Describe a report for a terminal."""
    tokens = ", ".join(f"{name} {count:,}" for name, count in report.tokens.items())
    return (
        f"{report.out}: {report.clips} clips, {report.crashes} of them crashes, {report.kept_out} more kept out; "
        f"tokens of decoder {tokens}; "
        f"{report.seconds:.0f} s on {report.device}"
    )
