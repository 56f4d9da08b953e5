"""The manifest of a bundle: the schema of `manifest.json`.

`folder.py` reads, checks and writes it. Times are in seconds, rates in hertz, paths relative to the bundle's folder.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from edge_sdk.bundle.manifest_language import Language, Rate
from edge_sdk.types import Dialect, StateSpec, TensorSpec, Value

SCHEMA = 1

# Bounds of what is kept in memory for each stream: far above any real use, far below what would exhaust any memory.
Side = Annotated[int, msgspec.Meta(ge=1, le=16_384)]
Frames = Annotated[int, msgspec.Meta(ge=1, le=1_000)]
Delay = Annotated[int, msgspec.Meta(ge=0, le=1_000)]
MAX_STREAM_BYTES = 1_000_000_000
"""Limit for the pictures and the state of one stream: an eighth of the memory of an 8 GB board. Three seconds of
3840 x 2160 luma at 30 Hz take three quarters of it; the demo's student takes a thousandth."""


class FileEntry(Value, frozen=True, kw_only=True):
    """One file of the bundle."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, msgspec.Meta(ge=0)]


class ReferenceCase(Value, frozen=True, kw_only=True):
    """Seeded inputs and fp32 outputs of a graph in one safetensors file, and the tolerance for a session's outputs.

    Tensors are called `in.NAME` and `out.NAME`. The error of an output is max |a - b| / max |b|. A float32 input may be
    stored as float16. A state input that the file lacks starts as zeros. `inputs_from` is a file with more inputs under
    their own names, such as LoRA matrices that the bundle holds anyway.
    """

    file: str
    inputs_from: str | None = None
    max_relative_error: Annotated[float, msgspec.Meta(gt=0)]


class Graph(Value, frozen=True, kw_only=True):
    """One ONNX graph: its file, whose name ends in `.onnx`, its tensors and its state.

    `dialects` lists the dialects whose operators the graph keeps to. A graph of plain operators keeps to both; one that
    keeps to none is for ONNX Runtime only.
    """

    file: str
    dialects: tuple[Dialect, ...]
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    state: tuple[StateSpec, ...] = ()
    reference: ReferenceCase | None = None


class Residual(Value, frozen=True, kw_only=True):
    """Calibrated error of a timeline boundary, seconds: for 80 % of events the truth is in `t + lo_s .. t + hi_s`."""

    shift_s: float = 0.0
    lo_s: float
    hi_s: float


class FalseAlarms(Value, frozen=True, kw_only=True):
    """The cost of an operating point: false alarms in ordinary footage.

    `held_out` is true if they were counted on clips that the fits had not seen. Otherwise they were counted on the
    clips used for fitting, which flatters the point, and the bound holds only for those.

    `alarms` occurred in `hours`. `upper_per_hour` is the upper bound of the rate (exact Poisson, one-sided 95 %).
    `budget_per_hour` is the rate that the point was chosen for, null if it was chosen otherwise. Near misses are much
    more frequent in clips than on roads, so their alarms are counted apart: `near_miss_alarms` in `near_misses` clips.
    """

    budget_per_hour: float | None
    alarms: int
    hours: float
    upper_per_hour: float | None
    near_miss_alarms: int
    near_misses: int
    held_out: bool = False


class OperatingPoint(Value, frozen=True, kw_only=True):
    """The thresholds and calibration of the timeline, fitted on validation clips by `calibration`.

    `provisional`, `confirm` and `release` are levels of the running mean of the crash score over `confirm_frames`.
    `pre_crash` is the level from which a frame counts as one where the crash is foreseeable. If `calibrated` is true,
    the score is calibrated as sigmoid(scale * logit(raw) + offset). `false_alarms` is absent in older bundles.
    """

    name: str = "balanced"
    provisional: float = 0.35
    confirm: float = 0.5
    release: float = 0.2
    confirm_frames: Frames = 3
    pre_crash: float = 0.4
    scale: float = 1.0
    offset: float = 0.0
    calibrated: bool = False
    pre_crash_start: Residual = msgspec.field(default_factory=lambda: Residual(lo_s=-1.5, hi_s=1.5))
    crash_start: Residual = msgspec.field(default_factory=lambda: Residual(lo_s=-1.0, hi_s=1.0))
    crash_end: Residual = msgspec.field(default_factory=lambda: Residual(lo_s=-1.5, hi_s=1.5))
    false_alarms: FalseAlarms | msgspec.UnsetType = msgspec.UNSET


class Student(Value, frozen=True, kw_only=True):
    """The student component: how frames become planes, and how its scores are read.

    `lags` are the frame distances of the motion planes. `heat_delay_frames` is the delay, in frames, of the start and
    end heat of an instant. `scores` names the columns of the output `scores [streams, n]`. `operating_point` is the
    default; another of `operating_points`, which older bundles lack, is selected by name. `cpu_graph` has the same
    tensors and weights as `graph`, in the form that a CPU computes fastest.
    """

    graph: str = "student"
    cpu_graph: str | None = None
    rate_hz: Rate
    height: Side
    width: Side
    lags: Annotated[tuple[Frames, ...], msgspec.Meta(min_length=1)]
    scores: tuple[str, ...]
    heat_delay_frames: Delay
    operating_point: OperatingPoint
    operating_points: tuple[OperatingPoint, ...] | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        others = () if self.operating_points is msgspec.UNSET else self.operating_points
        names = [point.name for point in (self.operating_point, *others)]
        if len(set(names)) != len(names):
            raise ValueError(f"an operating point's name appears twice: {', '.join(names)}")

    @property
    def picture_bytes(self) -> int:
        """Bytes of one stream's pictures: uint8 frames for the longest lag and the current one, and float32 planes."""
        kept, planes = max(self.lags) + 1, 1 + len(self.lags)
        return self.height * self.width * (kept + 4 * planes)

    @property
    def graphs(self) -> tuple[str, ...]:
        """Every graph of the component."""
        return (self.graph, *filter(None, [self.cpu_graph]))

    def graph_on(self, runtime: str, device: str = "cpu") -> str:
        """Return the name of the graph that `runtime` opens on `device`."""
        return self.cpu_graph if self.cpu_graph and runtime == "ort" and device == "cpu" else self.graph


class DemoClip(Value, frozen=True, kw_only=True):
    """A rendered clip in the bundle, and the scene record with its truth."""

    video: str
    record: str


class Manifest(Value, frozen=True, kw_only=True):
    """The whole of `manifest.json`."""

    schema: int
    name: str
    version: str
    created_utc: str
    graphs: dict[str, Graph]
    student: Student | None = None
    language: Language | None = None
    demo: DemoClip | None = None
    # Any: provenance is whatever the recipe recorded (recipe text, metrics, versions); the schema does not restrict it.
    provenance: dict[str, Any] = msgspec.field(default_factory=dict)
    files: dict[str, FileEntry]
