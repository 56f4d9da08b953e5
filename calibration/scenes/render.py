"""Renders scenes to clips: one seed is NAME.mp4, its record NAME.json and its boxes NAME.boxes.npy (see `boxes`)."""

from __future__ import annotations

import io
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.scenes.encode import encoder
from edge_sdk.calibration.scenes.families import DEFAULT_FAMILY, Family, find_family
from edge_sdk.calibration.scenes.film import frame_count, shoot
from edge_sdk.calibration.scenes.plan import ScenePlan
from edge_sdk.calibration.scenes.streams import Rng, stream, uniform
from edge_sdk.calibration.scenes.truth import scene_truth
from edge_sdk.clips import SceneRecord, read_record
from edge_sdk.errors import ConfigError
from edge_sdk.files import remove_half_written_files, write_bytes, write_json

DEFAULT_SIZE = (320, 192)
DEFAULT_FPS = 10.0
_LEAST_KBPS = 20


@dataclass(frozen=True)
class Progress:
    """How far a run is: clips done and in all, seconds spent and estimated to be left, and the latest record."""

    done: int
    total: int
    elapsed_s: float
    remaining_s: float
    record: SceneRecord


@dataclass(frozen=True)
class Job:
    """One scene to render."""

    seed: int
    folder: Path
    fps: float
    size: tuple[int, int]
    family: str = DEFAULT_FAMILY

    @property
    def path(self) -> Path:
        """The clip to write."""
        return self.folder / f"{find_family(self.family).clip_name(self.seed)}.mp4"


def render(
    seeds: Sequence[int],
    out: Path,
    *,
    fps: float = DEFAULT_FPS,
    size: tuple[int, int] = DEFAULT_SIZE,
    jobs: int = 2,
    family: str = DEFAULT_FAMILY,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[SceneRecord]:
    """Render the scenes of `seeds` of a family into folder `out` and return their records in the order of the seeds.

    Clips that are complete (of this generator version, size and rate) are kept, so an interrupted run resumes where it
    stopped. `jobs` processes render side by side, each with its own graphics context.
    """
    _check(seeds, fps, size, jobs)
    find_family(family)
    out.mkdir(parents=True, exist_ok=True)
    remove_half_written_files(out)
    started, records = time.monotonic(), dict[int, SceneRecord]()
    todo = []
    for seed in seeds:
        job = Job(seed, out, fps, size, family)
        record = _finished(job)
        if record is None:
            todo.append(job)
        else:
            records[seed] = record
    kept = len(records)
    for record in _run(todo, jobs):
        records[record.seed] = record
        if on_progress is not None:
            elapsed, fresh = time.monotonic() - started, len(records) - kept
            left = elapsed / fresh * (len(todo) - fresh)
            on_progress(Progress(len(records), len(seeds), elapsed, left, record))
    return [records[seed] for seed in seeds]


def _check(seeds: Sequence[int], fps: float, size: tuple[int, int], jobs: int) -> None:
    if len(set(seeds)) != len(seeds) or any(seed < 0 for seed in seeds):
        raise ConfigError("seeds must be distinct and not negative")
    if not 1.0 <= fps <= 60.0:
        raise ConfigError(f"fps is {fps}, expected 1 to 60")
    if size[0] % 16 or size[1] % 16 or not (64 <= size[0] <= 1920 and 64 <= size[1] <= 1200):
        raise ConfigError(f"size is {size[0]}x{size[1]}, expected multiples of 16 between 64x64 and 1920x1200")
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}, expected at least 1")


def _run(todo: list[Job], jobs: int) -> Iterator[SceneRecord]:
    if jobs == 1 or len(todo) < 2:
        yield from map(render_scene, todo)
        return
    # Spawned, not forked: a graphics context does not survive a fork.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_end_with_parent) as pool:
        futures = [pool.submit(render_scene, job) for job in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """Make a worker end when the run that started it is killed: a killed run cannot tell its workers to."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def _finished(job: Job) -> SceneRecord | None:
    """The record of a clip that needs no rendering; None for others, also if a file is empty or unreadable."""
    path = job.path.with_suffix(".json")
    if not all(_filled(path.with_suffix(suffix)) for suffix in (".json", ".mp4", ".boxes.npy")):
        return None
    try:
        record = read_record(path)
    except ConfigError:
        return None
    asked = (find_family(job.family).generator, job.fps, *job.size)
    return record if (record.generator, record.fps, record.width, record.height) == asked else None


def _filled(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def render_scene(job: Job) -> SceneRecord:
    """Plan, draw, encode and describe one scene."""
    family = find_family(job.family)
    plan = family.plan(job.seed)
    rng = stream(job.seed, "encoder")
    bitrate = _bitrate_kbps(plan, job.size, rng)
    path = job.path
    boxes: list[NDArray[np.float32]] = []
    # The record is removed first and written last: where it exists, the scene is complete.
    path.with_suffix(".json").unlink(missing_ok=True)
    with encoder(path, job.size, job.fps, bitrate, int(rng.integers(10, 100))) as film:
        for shot in shoot(plan, job.fps, job.size):
            film.write(shot.image)
            boxes.append(shot.boxes)
    record = describe(plan, family, job, len(boxes), bitrate)
    table = io.BytesIO()
    np.save(table, np.array(boxes), allow_pickle=False)
    write_bytes(path.with_suffix(".boxes.npy"), table.getvalue())
    write_json(path.with_suffix(".json"), record, indent=1)
    return record


def expected_record(job: Job) -> SceneRecord:
    """The record that `render_scene` writes, from the plan alone: nothing is drawn."""
    family = find_family(job.family)
    plan = family.plan(job.seed)
    bitrate = _bitrate_kbps(plan, job.size, stream(job.seed, "encoder"))
    return describe(plan, family, job, frame_count(plan, job.fps), bitrate)


def _bitrate_kbps(plan: ScenePlan, size: tuple[int, int], rng: Rng) -> int:
    bitrate = int(np.exp(uniform(rng, np.log(120), np.log(900))) * size[0] * size[1] / (320 * 192))
    return bitrate if plan.tricks is None else max(int(bitrate * plan.tricks.bitrate), _LEAST_KBPS)


def describe(plan: ScenePlan, family: Family, job: Job, count: int, bitrate_kbps: int) -> SceneRecord:
    """The record of a rendered plan."""
    times, conditions = plan.times, plan.conditions
    return SceneRecord(
        name=family.clip_name(plan.seed),
        seed=plan.seed,
        generator=family.generator,
        view=conditions.view,
        kind=plan.kind,
        scenario=plan.scenario,
        crash=times is not None,
        ego_involved=plan.ego_involved,
        light=conditions.light,
        weather=conditions.weather,
        fps=job.fps,
        width=job.size[0],
        height=job.size[1],
        frames=count,
        duration_s=round(count / job.fps, 3),
        pre_crash_start_s=None if times is None else round(times.pre_crash_start_s, 3),
        crash_start_s=None if times is None else round(times.crash_start_s, 3),
        crash_end_s=None if times is None else round(times.crash_end_s, 3),
        min_gap_m=None if plan.gap is None else round(plan.gap.gap_m, 3),
        bitrate_kbps=bitrate_kbps,
        truth=scene_truth(plan) if family.with_truth else msgspec.UNSET,
    )
