"""What a teacher said of clips, kept once and for all students: one safetensors file a clip, and who the teacher was.

A clip is known by the SHA-256 of its bytes. A file appears whole or not at all, so a run that was stopped goes on with
the clips that are missing, and several may fill one folder. Nothing here needs the teacher, its runtime or a GPU.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edge_sdk.errors import ConfigError
from edge_sdk.files import write_bytes
from edge_sdk.types import Value

SCHEMA = 2
TEACHER_NAME = "teacher.json"


class TeacherInfo(Value, frozen=True, kw_only=True):
    """Who taught, and how it was asked; a cache is of one teacher and one way of asking.

    `rate_hz` frames a second are seen; tokens are pooled to `grid` (rows, columns). A window of `window_s` is asked
    about every `stride_s`. Boundary densities are smoothed by a Gaussian of `smoothing_s`. `prompts_sha256` is of the
    questions' texts.
    """

    schema: int = SCHEMA
    bundle: str
    bundle_sha256: str
    prompts_sha256: str
    profile: str
    rate_hz: float
    grid: tuple[int, int]
    window_s: float
    stride_s: float
    smoothing_s: float


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a teacher made of one clip; all times are seconds since its first decoded frame.

    Times of pictures are those at which they appear, whatever a prompt says of them.

    `features` float16 `[n, rows * columns + 1, width]`: the vision tower's tokens of the frames at `feature_times_s
    [n]`, averaged over each cell of the grid, row by row, and over the whole picture (last). `yes` float32 `[w]`: the
    probability that a crash happens in the window that ends at `score_times_s [w]`. `densities` float32 `[2, m]`: how
    likely the crash starts, and ends, at each of `boundary_times_s [m]`, each of sum 1; m is 0 for a teacher that is
    not asked for times, as w is for one that is not asked for a crash.
    """

    feature_times_s: NDArray[np.float32]
    features: NDArray[np.float16]
    score_times_s: NDArray[np.float32]
    yes: NDArray[np.float32]
    boundary_times_s: NDArray[np.float32]
    densities: NDArray[np.float32]


class TeacherCache:
    """The lessons in `folder`, by the SHA-256 of their clips."""

    def __init__(self, folder: Path, info: TeacherInfo) -> None:
        self.folder, self.info = folder, info

    @classmethod
    def create(cls, folder: Path, info: TeacherInfo) -> TeacherCache:
        """The cache of the teacher `info`, new or begun earlier. Raises `ConfigError` for that of another one."""
        if (folder / TEACHER_NAME).is_file():
            there = cls.open(folder)
            if there.info != info:
                raise ConfigError(
                    f"{folder} holds lessons of another teacher or of other questions "
                    f"({_difference(there.info, info)}); choose another folder"
                )
            return there
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / TEACHER_NAME, msgspec.json.format(msgspec.json.encode(info), indent=1) + b"\n")
        return cls(folder, info)

    @classmethod
    def open(cls, folder: Path) -> TeacherCache:
        """A cache that is there. Raises `ConfigError`."""
        try:
            info = msgspec.json.decode((folder / TEACHER_NAME).read_bytes(), type=TeacherInfo)
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigError(
                f"{folder} is no teacher's cache: {error}; make one with: edge-sdk distil teach"
            ) from error
        if info.schema != SCHEMA:
            raise ConfigError(f"{folder}: cache schema {info.schema}, this version reads {SCHEMA}; teach again")
        return cls(folder, info)

    @property
    def digest(self) -> str:
        """Twelve hex digits of who taught and how."""
        return hashlib.sha256(msgspec.json.encode(self.info)).hexdigest()[:12]

    def path(self, sha256: str) -> Path:
        """Where the lesson of a clip lies or will lie."""
        return self.folder / f"{sha256}.safetensors"

    def write(self, sha256: str, lesson: Lesson) -> None:
        """Keep the lesson of a clip."""
        arrays = {name: np.ascontiguousarray(value) for name, value in vars(lesson).items()}
        write_bytes(self.path(sha256), save(arrays))

    def read(self, sha256: str) -> Lesson | None:
        """The lesson of a clip, None where it was not taught. Raises `ConfigError` for a file that is none."""
        path = self.path(sha256)
        if not path.is_file():
            return None
        try:
            lesson = Lesson(**load(path.read_bytes()))
        except (SafetensorError, TypeError) as error:
            raise ConfigError(f"{path} is no lesson: {error}; remove it and teach again") from error
        _check(path, lesson, self.info)
        return lesson


def cache_for(recipe: str, asked: bool, folder: Path | None) -> TeacherCache | None:
    """The cache in `folder` for a `recipe`, named so in errors, that has a table [teacher] or not: `asked`.

    Raises `ConfigError` where one is there and the other is not, and for a folder that is no cache.
    """
    if asked != (folder is not None):
        found = "has no table [teacher], and a cache is" if folder else "has a table [teacher], and no cache is"
        raise ConfigError(
            f"recipe {recipe} {found} given; caches are made by: edge-sdk distil teach BUNDLE --clips DIR --out CACHE, "
            "and given by --teacher CACHE"
        )
    return None if folder is None else TeacherCache.open(folder)


def _check(path: Path, lesson: Lesson, info: TeacherInfo) -> None:
    cells = info.grid[0] * info.grid[1] + 1
    frames, scores, bins = (
        len(times) for times in (lesson.feature_times_s, lesson.score_times_s, lesson.boundary_times_s)
    )
    shapes = {
        "features": (lesson.features.shape[:2], (frames, cells)),
        "yes": (lesson.yes.shape, (scores,)),
        "densities": (lesson.densities.shape, (2, bins)),
    }
    for name, (found, expected) in shapes.items():
        if found != expected:
            raise ConfigError(
                f"{path}: expected {name} {list(expected)}, found {list(found)}; remove it and teach again"
            )
    if not all(np.isfinite(value).all() for value in vars(lesson).values()):
        raise ConfigError(f"{path} holds values that are not finite; remove it and teach again")


def _difference(there: TeacherInfo, here: TeacherInfo) -> str:
    old, new = msgspec.structs.asdict(there), msgspec.structs.asdict(here)
    return ", ".join(f"{name} {old[name]} there, {new[name]} now" for name in old if old[name] != new[name])
