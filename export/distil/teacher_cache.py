"""A teacher's answers on clips, stored once for all students: one safetensors file per clip, and who the teacher was.

A clip is identified by the SHA-256 of its bytes. Files are written atomically, so a stopped run continues with the
missing clips, and several runs may fill one folder. Nothing here needs the teacher, its runtime or a GPU.
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
from edge_sdk.files import write_bytes, write_json
from edge_sdk.types import Value

SCHEMA = 2
TEACHER_NAME = "teacher.json"


class TeacherInfo(Value, frozen=True, kw_only=True):
    """The teacher, and how it was asked; a cache holds the lessons of one teacher and one way of asking.

    The teacher sees `rate_hz` frames per second; tokens are pooled to `grid` (rows, columns). It is asked about a
    window of `window_s` every `stride_s`. Boundary densities are smoothed by a Gaussian of `smoothing_s`.
    `prompts_sha256` is the digest of the prompts.
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
    """What a teacher said about one clip; all times are seconds since the clip's first decoded frame.

    The time of a picture is when it appears, even where a prompt states another one.

    `features` float16 `[n, rows * columns + 1, width]`: the vision tower's tokens of the frames at `feature_times_s
    [n]`, averaged over each cell of the grid, row by row, and over the whole picture (last). `yes` float32 `[w]`: the
    probability that a crash happens in the window that ends at `score_times_s [w]`. `densities` float32 `[2, m]`: the
    probabilities that the crash starts, and ends, at each of `boundary_times_s [m]`, each row of sum 1. m is 0 for a
    teacher that is not asked for times, and w is 0 for one that is not asked for a crash.
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
        """Create the cache of the teacher `info`, or open it. Raises `ConfigError` for the cache of another teacher."""
        if (folder / TEACHER_NAME).is_file():
            there = cls.open(folder)
            if there.info != info:
                raise ConfigError(
                    f"{folder} holds lessons of another teacher or of other questions "
                    f"({_difference(there.info, info)}); choose another folder"
                )
            return there
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / TEACHER_NAME, info, indent=1)
        return cls(folder, info)

    @classmethod
    def open(cls, folder: Path) -> TeacherCache:
        """Open an existing cache. Raises `ConfigError` for a folder that is none, or one of another schema."""
        try:
            info = msgspec.json.decode((folder / TEACHER_NAME).read_bytes(), type=TeacherInfo)
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigError(
                f"{folder} is not a teacher's cache: {error}; make one with: edge-sdk distil teach"
            ) from error
        if info.schema != SCHEMA:
            raise ConfigError(f"{folder}: cache schema {info.schema}, this version reads {SCHEMA}; teach again")
        return cls(folder, info)

    @property
    def digest(self) -> str:
        """Twelve hex digits that identify the teacher and how it was asked."""
        return hashlib.sha256(msgspec.json.encode(self.info)).hexdigest()[:12]

    def path(self, sha256: str) -> Path:
        """The path of a clip's lesson, whether it exists or not."""
        return self.folder / f"{sha256}.safetensors"

    def write(self, sha256: str, lesson: Lesson) -> None:
        """Write the lesson of a clip."""
        arrays = {name: np.ascontiguousarray(value) for name, value in vars(lesson).items()}
        write_bytes(self.path(sha256), save(arrays))

    def read(self, sha256: str) -> Lesson | None:
        """Read the lesson of a clip; None if there is none. Raises `ConfigError` for a file that is not a lesson."""
        path = self.path(sha256)
        if not path.is_file():
            return None
        try:
            lesson = Lesson(**load(path.read_bytes()))
        except (SafetensorError, TypeError) as error:
            raise ConfigError(f"{path} is not a lesson: {error}; remove it and teach again") from error
        _check(path, lesson, self.info)
        return lesson


def cache_for(recipe: str, asked: bool, folder: Path | None) -> TeacherCache | None:
    """Open the cache in `folder`; `asked` says whether the recipe has a table [teacher], `recipe` names it in errors.

    Raises `ConfigError` for a cache without a table, a table without a cache, and a folder that is no cache.
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
