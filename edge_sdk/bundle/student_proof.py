"""The measured cost of quantising a bundle's student to 8 bits: `quantise/student.json` of the bundle."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edge_sdk.types import Value

STUDENT = "quantise/student.json"
_MB = 1e6


class LayerChoice(Value, frozen=True, kw_only=True):
    """One layer: the mean difference of the scores with only it in 8 bits, and whether and why it stays float32.

    The difference is that of the worse of the two graphs.
    """

    name: str
    score_error: float
    float32: bool
    why: str


class StudentScores(Value, frozen=True, kw_only=True):
    """A student's scores on labelled clips, 0..1, and its start error in seconds.

    `f1` is that of its own alarms at the bundle's operating point.
    """

    clip_ap: float | None
    clip_auc: float | None
    f1: float | None
    frame_auc: float | None
    start_error_s: float | None


class HeldOut(Value, frozen=True, kw_only=True):
    """Scores in float32 and in 8 bits on the same clips, which the calibration has not seen."""

    clips: int
    crashes: int
    before: StudentScores
    after: StudentScores


class StudentEvidence(Value, frozen=True, kw_only=True):
    """The whole of `quantise/student.json`.

    Errors are mean differences of the scores from the float32 student's on the calibration clips. `method_errors` are
    those of each method with all layers in 8 bits, in the worse of the two graphs; `signed_error` and `cpu_error` are
    those of the two graphs as stored in the bundle. `held_out` is None if no clips were given. `size_bytes` are the
    sizes of the graphs with their weights in float32 and in 8 bits. `float_activation_bytes` is what the largest
    operator reads and writes in float32. `files` are the SHA-256 of the measured graphs and weights, by path. Older
    bundles lack these last three.
    """

    recipe: str
    method: str
    method_errors: dict[str, float]
    signed_error: float
    cpu_error: float
    layers: tuple[LayerChoice, ...]
    held_out: HeldOut | None = None
    size_bytes: tuple[int, int] | None = None
    float_activation_bytes: int | None = None
    files: dict[str, str] = msgspec.field(default_factory=dict)


def student_lines(found: StudentEvidence) -> Iterator[str]:
    """Describe the evidence in lines for people."""
    kept = [layer for layer in found.layers if layer.float32]
    yield (
        f"proof: student by {found.recipe or 'a recipe without a name'}: {len(found.layers) - len(kept)} of "
        f"{len(found.layers)} layers of 8 bits, ranges by {found.method}; scores differ by {found.signed_error:.2g} on "
        f"average on the calibration clips, {found.cpu_error:.2g} on a CPU"
    )
    yield from (f"proof: student layer {layer.name} stays float32: {layer.why}" for layer in kept)
    if found.size_bytes:
        before, after = (each / _MB for each in found.size_bytes)
        yield f"proof: student {before:.2f} MB -> {after:.2f} MB"
    if found.held_out is None:
        yield "proof: student not scored: quantise with --held-out"
    else:
        yield from score_lines(found.held_out)


def score_lines(found: HeldOut) -> Iterator[str]:
    """Describe scores before and after in lines for people."""
    yield f"student on {found.clips} held-out clips, {found.crashes} of them crashes:"
    for name in StudentScores.__struct_fields__:
        before, after = (_number(getattr(each, name)) for each in (found.before, found.after))
        yield f"  {name:14} {before} -> {after}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
