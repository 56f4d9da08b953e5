"""From clips to statistics of a checkpoint's activations, as the command line opens it.

The clips are chosen by `calibration`, the model is run by `export/quantise`.
"""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import Any

from edge_sdk.types import Value

COUNT = 64


class CalibrationReport(Value, frozen=True, kw_only=True):
    """What became of a calibration: how many clips were seen, of them crashes, and tokens by decoder.

    Clips of statistics that were added count too.
    """

    out: str
    clips: int
    crashes: int
    tokens: dict[str, int]
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
    work: Path | None = None,
    quiet: bool = False,
    # Any: fields of the export room's recipe, which judges them.
    **changes: Any,
) -> CalibrationReport:
    """Run `checkpoint` on at most `count` clips of the folder `clips`, and write its activations' statistics to `out`.

    Each clip gives at most `frames` frames of `profile`, the first of the recipe by default, and is asked every task of
    each adapter. `add` are folders of earlier calibrations of the same model, with other clips, that are added up.
    `work` keeps finished steps until `out` stands; it is `out` with `.work` behind its name unless given. Raises
    `ConfigError` for settings, for too few clips, no crash among them, activations that are not finite, a full disk, or
    when `out` exists; `SourceError` for a clip that cannot be decoded, `CheckpointError` for weights.
    """
    begun_s = time.monotonic()
    order = _room("export.export_recipe").settle(checkpoint, adapters=adapters, merge=merge, recipe=export, **changes)
    chosen = _room("calibration.activation_clips").choose_clips(clips, count)
    clip = _room("export.quantise.statistics").Clip
    told = [
        (path, clip(name=path.name, sha256=each.sha256, crash=each.crash, condition=each.condition))
        for path, each in ((Path(each.path), each) for each in chosen)
    ]
    index = _room("export.quantise.calibrate").run_calibration(
        order, told, out, profile=profile, frames=frames, work=work, add=add, quiet=quiet
    )
    return CalibrationReport(
        out=str(out),
        clips=len(index.clips),
        crashes=sum(clip.crash is True for clip in index.clips),
        tokens=index.tokens,
        seconds=time.monotonic() - begun_s,
    )


def describe(report: CalibrationReport) -> str:
    """A report for a terminal."""
    tokens = ", ".join(f"{name} {count:,}" for name, count in report.tokens.items())
    return (
        f"{report.out}: {report.clips} clips, {report.crashes} of them crashes; tokens of decoder {tokens}; "
        f"{report.seconds:.0f} s"
    )


# Any: a room is opened by name, so that the ground depends on none.
def _room(module: str) -> Any:
    return import_module(f"edge_sdk.{module}")
