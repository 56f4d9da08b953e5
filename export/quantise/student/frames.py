"""Clips as the student sees them, and the student's scores of them: the device's capture, planes and states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edge_sdk.bundle.manifest import Graph, Student
from edge_sdk.capture import CaptureSettings, open_source
from edge_sdk.errors import ConfigError
from edge_sdk.export.quantise.student.native import open_session
from edge_sdk.perception.planes import window_planes
from edge_sdk.perception.recogniser import FRAMES_INPUT, SCORES_OUTPUT

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SeenClip:
    """A clip's pictures as the device has them, uint8 `[frames, height, width]`."""

    luma: NDArray[np.uint8]
    lags: tuple[int, ...]

    def planes(self) -> Floats:
        """The student's inputs `[frames, planes, height, width]`."""
        return window_planes(self.luma, self.lags)


def read_clips(
    paths: Sequence[Path], student: Student, on_progress: Callable[[int, int], object]
) -> tuple[SeenClip, ...]:
    """Every frame of every clip. Raises `SourceError` as capture does, `ConfigError` for a clip without pictures."""
    settings = CaptureSettings(
        width=student.width, height=student.height, rate_hz=student.rate_hz, pixels="luma", policy="every"
    )
    found = []
    for done, path in enumerate(paths):
        with open_source(str(path), settings) as source:
            pictures = [frame.pixels.copy() for frame in source]
        if not pictures:
            raise ConfigError(f"{path}: expected pictures, found none; take it out of the folder")
        found.append(SeenClip(np.stack(pictures), student.lags))
        on_progress(done + 1, len(paths))
    return tuple(found)


class FrameLoop:
    """A student's graph on ONNX Runtime, one thread, frame by frame with its states carried along.

    `wanted` are further values of the graph to return; `plainly` runs every operator as written, without fusion.
    """

    def __init__(self, model: ModelProto, graph: Graph, wanted: Sequence[str] = (), *, plainly: bool = False) -> None:
        shown = ModelProto()
        shown.CopyFrom(model)
        known = {value.name: value for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]}
        given = {value.name for value in model.graph.output} | {value.name for value in model.graph.input}
        shown.graph.output.extend(known[name] for name in wanted if name not in given)
        # Any: onnxruntime ships no types.
        self._native: Any = open_session(shown, plainly=plainly)
        self._names = [value.name for value in self._native.get_outputs()]
        self._state = {entry.input: entry.output for entry in graph.state}
        self._shapes = {
            spec.name: [1, *(int(length) for length in spec.shape[1:])]
            for spec in graph.inputs
            if spec.name in self._state
        }

    def walk(self, clip: SeenClip) -> Iterator[tuple[Mapping[str, Floats], Mapping[str, Floats]]]:
        """Yield the graph's inputs and outputs for every frame of `clip`, from the first."""
        state = {name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()}
        for planes in clip.planes():
            feeds = {FRAMES_INPUT: planes[None], **state}
            found = dict(zip(self._names, self._native.run(self._names, feeds), strict=True))
            yield feeds, found
            state = {name: found[output] for name, output in self._state.items()}

    def run(self, feeds: Mapping[str, Floats]) -> dict[str, Floats]:
        """Run the graph once on `feeds`."""
        return dict(zip(self._names, self._native.run(self._names, dict(feeds)), strict=True))

    def scores(self, clips: Sequence[SeenClip]) -> Floats:
        """Scores `[all frames, scores]` of clips, each from its first frame."""
        return np.concatenate([found[SCORES_OUTPUT] for clip in clips for _, found in self.walk(clip)])
