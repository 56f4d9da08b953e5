"""The cost of 8 bits for a student on held-out clips, and the time of a frame before and after quantisation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from onnx import ModelProto

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest import Graph
from edge_sdk.bundle.student_proof import HeldOut, StudentScores
from edge_sdk.clips import LabelledClip
from edge_sdk.evaluation.evaluate import evaluate
from edge_sdk.evaluation.protocol import scene_samples
from edge_sdk.evaluation.student import StudentScorer
from edge_sdk.export.quantise.student.frames import FrameLoop, SeenClip

_WARM_UP, _ROUNDS = 10, 4


def held_out_scores(
    before: Bundle, after: Bundle, clips: Sequence[LabelledClip], on_clip: Callable[[int, int], object]
) -> HeldOut:
    """Both bundles' students on rendered `clips`, through the device's whole path. Raises as `evaluate`."""
    tables = []
    for part, bundle in enumerate((before, after)):

        def tell(_: str, done: int, total: int, part: int = part) -> None:
            on_clip(part * total + done, 2 * total)

        found = evaluate(scene_samples(clips), [StudentScorer(bundle)], seed=0, bootstrap=0, progress=tell)
        tables.append(next(table for table in found.tables if table.name == "all"))
    rows = [next(row for row in table.rows if row.scorer == StudentScorer.name) for table in tables]
    scores = [
        StudentScores(
            clip_ap=row.clip_ap.value,
            clip_auc=row.clip_auc.value,
            f1=row.f1.value,
            frame_auc=row.frame_auc.value,
            start_error_s=row.start.median_s,
        )
        for row in rows
    ]
    return HeldOut(
        clips=tables[0].crashes + tables[0].normals, crashes=tables[0].crashes, before=scores[0], after=scores[1]
    )


def frame_times_ms(models: Sequence[ModelProto], graph: Graph, clip: SeenClip) -> list[float]:
    """Median milliseconds of one frame on one thread for each model; the models take turns."""
    loops = [FrameLoop(model, graph) for model in models]
    given = [dict(feeds) for feeds, _ in loops[0].walk(clip)]
    taken: list[list[float]] = [[] for _ in models]
    for round_ in range(_ROUNDS):
        for number, loop in enumerate(loops):
            for index, feeds in enumerate(given):
                began_s = time.perf_counter()
                loop.run(feeds)
                if round_ or index >= _WARM_UP:
                    taken[number].append(1e3 * (time.perf_counter() - began_s))
    return [float(np.median(each)) for each in taken]
