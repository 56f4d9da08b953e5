"""`edge-sdk quantise` for a bundle: quantise its student to 8 bits; `export/quantise` does the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_sdk.bundle.student_proof import HeldOut, score_lines
from edge_sdk.clips import read_scenes
from edge_sdk.errors import ConfigError
from edge_sdk.files import check_new, sha256_of
from edge_sdk.registry import open_room
from edge_sdk.types import Value

COUNT = 64


class StudentQuantiseReport(Value, frozen=True, kw_only=True):
    """The result of quantising a student.

    `bytes` is the size of the graphs with their weights, and `frame_ms` the time for one frame with ONNX Runtime on one
    thread of this machine, each in float32 and in 8 bits. `score_error` is the mean difference of the scores on the
    calibration clips.
    """

    bundle: str
    sha256: str
    clips: int
    method: str
    score_error: float
    layers: int
    float_layers: tuple[str, ...]
    bytes: tuple[int, int]
    frame_ms: tuple[float, float]
    held_out: HeldOut | None


def quantise_student(
    bundle: Path,
    out: Path,
    recipe: str,
    clips: Path,
    *,
    held_out: Path | None = None,
    count: int = COUNT,
    quiet: bool = False,
) -> StudentQuantiseReport:
    """Write the bundle in the folder `bundle` to `out` with its student in 8 bits, calibrated on the folder `clips`.

    At most `count` clips are used, balanced as in `calibrating.calibrate`. `held_out` is a folder of rendered scenes on
    which the student is scored before and after. The operating point stays as it is. Raises `ConfigError` for an
    invalid recipe, too few clips, no crash among them, clips in both folders, values that are not finite, or if `out`
    exists; `BundleError` for `bundle`; `SourceError` for a clip that cannot be decoded.
    """
    found = open_room("export.quantise.student.recipe").load_student_recipe(recipe)
    check_new(out)
    chosen = open_room("calibration.activation_clips").choose_clips(clips, count)
    scored = read_scenes(held_out) if held_out else []
    _check_apart({each.sha256 for each in chosen}, [clip.path for clip in scored])
    seen = [(Path(each.path), each.sha256) for each in chosen]
    report: StudentQuantiseReport = open_room("export.quantise.student.pipeline").run_quantise_student(
        bundle, found, seen, out, scored, quiet=quiet
    )
    return report


def describe(report: StudentQuantiseReport) -> str:
    """Describe a report for a terminal."""
    kept = f", {', '.join(report.float_layers)} in float32" if report.float_layers else ""
    lines = [
        f"{report.bundle}: {report.layers} layers of 8 bits{kept}; ranges by {report.method} on {report.clips} clips",
        f"graphs and weights {report.bytes[0] / 1e6:.2f} MB -> {report.bytes[1] / 1e6:.2f} MB, "
        f"a frame {report.frame_ms[0]:.2f} ms -> {report.frame_ms[1]:.2f} ms, "
        f"scores differ by {report.score_error:.4f} on average",
    ]
    if found := report.held_out:
        lines += score_lines(found)
    else:
        lines.append("accuracy not scored: give rendered scenes that calibration has not seen with --held-out")
    return "\n".join(lines)


def _check_apart(seen: set[str], scored: Sequence[Path]) -> None:
    if both := [path for path in scored if sha256_of(path) in seen]:
        raise ConfigError(
            f"{both[0].parent}: {len(both)} of its clips were used for calibration and cannot be scored; give others"
        )
