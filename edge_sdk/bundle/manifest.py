"""The manifest of a bundle: what `manifest.json` may hold, and nothing else.

`folder.py` reads, checks and writes it. Times are in seconds, rates in hertz, paths relative to the bundle's folder.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from edge_sdk.bundle.manifest_language import Language, Rate
from edge_sdk.types import Dialect, StateSpec, TensorSpec, Value

SCHEMA = 1

# Bounds of what is kept in memory for every stream: far above any use, far below what no memory holds.
Side = Annotated[int, msgspec.Meta(ge=1, le=16_384)]
Frames = Annotated[int, msgspec.Meta(ge=1, le=1_000)]
Delay = Annotated[int, msgspec.Meta(ge=0, le=1_000)]
MAX_STREAM_BYTES = 1_000_000_000
"""Of pictures and state together: an eighth of a board of 8 GB. 90 luma pictures of 3840 x 2160, three seconds at
30 Hz, are three quarters of it; the demo's student takes a thousandth."""


class FileEntry(Value, frozen=True, kw_only=True):
    """One file of the bundle."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, msgspec.Meta(ge=0)]


class ReferenceCase(Value, frozen=True, kw_only=True):
    """Seeded inputs and fp32 outputs of a graph, in one safetensors file, and how far a session may be from them.

    Tensors are called `in.NAME` and `out.NAME`. The error of an output is max |a - b| / max |b|. A float32 input may be
    stored as float16. A state input that the file does not give begins as zeros; `inputs_from` is a file with more
    inputs under their own names, such as LoRA matrices that the bundle holds anyway.
    """

    file: str
    inputs_from: str | None = None
    max_relative_error: Annotated[float, msgspec.Meta(gt=0)]


class Graph(Value, frozen=True, kw_only=True):
    """One ONNX graph: its file, whose name ends in `.onnx`, tensors and state.

    `dialects` are the dialects whose operators it keeps to; a graph of plain operators keeps to both. One that keeps to
    none is for ONNX Runtime alone.
    """

    file: str
    dialects: tuple[Dialect, ...]
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    state: tuple[StateSpec, ...] = ()
    reference: ReferenceCase | None = None


class Residual(Value, frozen=True, kw_only=True):
    """Calibrated error of one timeline boundary, seconds: truth lies in `t + lo_s .. t + hi_s` for 80 % of events."""

    shift_s: float = 0.0
    lo_s: float
    hi_s: float


class FalseAlarms(Value, frozen=True, kw_only=True):
    """What an operating point costs: false alarms per hour of ordinary footage.

    `held_out`: counted on clips that its fits had not seen; otherwise on those that it was fitted on, which flatters
    it, and the bound holds for none but them.

    `alarms` in `hours`; `upper_per_hour` is the highest rate that they leave possible (exact Poisson, one-sided 95 %).
    `budget_per_hour` is what the point was chosen for, null for one that was chosen otherwise. Alarms on near misses,
    which fill clips but not roads, are counted apart: `near_miss_alarms` of `near_misses` clips.
    """

    budget_per_hour: float | None
    alarms: int
    hours: float
    upper_per_hour: float | None
    near_miss_alarms: int
    near_misses: int
    held_out: bool = False


class OperatingPoint(Value, frozen=True, kw_only=True):
    """Where the timeline fires, and what its numbers mean; chosen on validation clips by `calibration`.

    `provisional`, `confirm` and `release` are levels of the running mean of the crash score over `confirm_frames`;
    `pre_crash` is the level from which a frame counts as foreseeable. The score is calibrated as
    sigmoid(scale * logit(raw) + offset) when `calibrated` is true. `false_alarms` is absent in older bundles.
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

    `lags` are the frame distances of the motion planes; `heat_delay_frames` is how many frames after an instant its
    start and end heat are given; `scores` names the columns of the output `scores [streams, n]`. `operating_point` is
    used unless another of `operating_points`, which older bundles lack, is asked for by its name. `cpu_graph` has the
    same tensors and weights as `graph`, in the form that a CPU computes fastest.
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
            raise ValueError(f"an operating point's name stands twice: {', '.join(names)}")

    @property
    def picture_bytes(self) -> int:
        """What the pictures of one stream take: a uint8 one for each frame of the longest lag, and float32 planes."""
        kept, planes = max(self.lags) + 1, 1 + len(self.lags)
        return self.height * self.width * (kept + 4 * planes)

    @property
    def graphs(self) -> tuple[str, ...]:
        """Every graph of the component."""
        return (self.graph, *filter(None, [self.cpu_graph]))

    def graph_on(self, runtime: str, device: str = "cpu") -> str:
        """The graph that `runtime` opens on `device`."""
        return self.cpu_graph if self.cpu_graph and runtime == "ort" and device == "cpu" else self.graph


class DemoClip(Value, frozen=True, kw_only=True):
    """A rendered clip that travels with the bundle, and the scene record that is its truth."""

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
    # Any: provenance is whatever the recipe recorded (recipe text, metrics, versions); it is shown, never interpreted.
    provenance: dict[str, Any] = msgspec.field(default_factory=dict)
    files: dict[str, FileEntry]
