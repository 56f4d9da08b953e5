"""Fills a teacher's cache: a bundle's video LLM looks at every clip once, in any runtime that runs the bundle here.

A `Lesson` keeps three things. The vision tower's tokens say what is seen. The probability of "Yes" for a window says
whether a crash has happened in it. The model's own distribution over the times that it might have answered says where
the crash begins and ends, and how sure that is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import VisionProfile
from edge_sdk.errors import ConfigError, SourceError
from edge_sdk.explaining.sampling import ClipPlan, Shown, plan_clip, read_clip, spread
from edge_sdk.export.distil.teacher_cache import Lesson, TeacherCache, TeacherInfo
from edge_sdk.files import sha256_of
from edge_sdk.reasoning import Answer
from edge_sdk.reasoning.clip import Clip
from edge_sdk.reasoning.forms.distribution import TimeBelief
from edge_sdk.reasoning.reasoner import Reasoner
from edge_sdk.runtime import Array, SessionOptions
from edge_sdk.types import Value

GRID_MOST = (3, 5)
# More frames than any clip has, so that every slot of the rate is seen.
_EVERY = 1_000_000
_TENTH_S = 0.1
# Time stamps that differ by less are the same.
_SAME_S = 1e-6


class Asking(Value, frozen=True, kw_only=True):
    """How a teacher is asked: windows of `window_s` that end `stride_s` apart, densities smoothed by `smoothing_s`."""

    window_s: float = 4.0
    stride_s: float = 1.0
    smoothing_s: float = 0.3

    def __post_init__(self) -> None:
        if not all(0 < each < math.inf for each in (self.window_s, self.stride_s, self.smoothing_s)):
            raise ConfigError(f"expected a window, a stride and a smoothing above 0 s, found {self}")


def teach(
    bundle: Bundle,
    clips: Sequence[Path],
    folder: Path,
    *,
    asking: Asking | None = None,
    profile: str | None = None,
    runtime: str = "ort",
    options: SessionOptions | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> TeacherCache:
    """Let the video LLM of `bundle` look at `clips` and keep its lessons in `folder`; clips with a lesson are skipped.

    A clip that cannot be read does not stop the others. Raises what `Reasoner` raises, `ConfigError` for a folder of
    another teacher, and, after all clips, `SourceError` if some could not be read.
    """
    asked, failed = asking or Asking(), list[str]()
    with Reasoner(bundle, runtime, options, profile=profile) as reasoner:
        teacher = _Teacher(bundle, reasoner, asked)
        cache = TeacherCache.create(folder, teacher.info)
        for done, clip in enumerate(clips, start=1):
            try:
                digest = sha256_of(clip)
                lesson = None if cache.path(digest).is_file() else teacher.lesson(clip)
            except (SourceError, OSError) as error:
                failed.append(str(error))
            else:
                if lesson is not None:
                    cache.write(digest, lesson)
            if on_progress is not None:
                on_progress(done, len(clips))
    if failed:
        raise SourceError(
            f"{len(failed)} of {len(clips)} clips cannot be read, and a student cannot learn from them; leave them "
            f"out; the others are in {folder}: {'; '.join(failed)}"
        )
    return cache


class _Teacher:
    """A reasoner with one way of asking."""

    def __init__(self, bundle: Bundle, reasoner: Reasoner, asking: Asking) -> None:
        language = bundle.manifest.language
        if language is None:
            raise ConfigError(
                f"bundle {bundle.manifest.name!r} has no language part to teach with; give a bundle that has one"
            )
        self._reasoner, self._asking = reasoner, asking
        self._profile: VisionProfile = language.profiles[reasoner.profile]
        window = 2 * language.patch
        self._cells = (self._profile.height // window, self._profile.width // window)
        self.info = TeacherInfo(
            bundle=bundle.manifest.name,
            bundle_sha256=bundle.sha256,
            prompts_sha256=hashlib.sha256(bundle.path(language.prompts).read_bytes()).hexdigest(),
            profile=reasoner.profile,
            rate_hz=self._profile.rate_hz,
            grid=(min(GRID_MOST[0], self._cells[0]), min(GRID_MOST[1], self._cells[1])),
            window_s=asking.window_s,
            stride_s=asking.stride_s,
            smoothing_s=asking.smoothing_s,
        )

    def lesson(self, path: Path) -> Lesson:
        """Ask the teacher about one clip."""
        plan = plan_clip(path, msgspec.structs.replace(self._profile, frames=_EVERY))
        # The picture in a slot of the rate may have appeared after the slot's time stamp, or long before it.
        seen_s = dict(zip(plan.times_s, plan.seen_s, strict=True))
        pooled: dict[float, NDArray[np.float16]] = {}

        def keep(time_s: float, tokens: Array) -> None:
            if time_s not in pooled:
                pooled[time_s] = pool(np.asarray(tokens, np.float32), self._cells, self.info.grid)

        with self._reasoner.begin(source=(plan.info.width, plan.info.height), on_tokens=keep) as clip:
            scores = [(seen_s[shown[-1].time_s], self._yes(clip, shown)) for shown in self._windows(path, plan)]
            times_s, densities = self._boundaries(clip, path, plan)
        stamps = sorted(pooled)
        return Lesson(
            feature_times_s=np.array([seen_s[stamp] for stamp in stamps], np.float32),
            features=np.stack([pooled[stamp] for stamp in stamps]),
            score_times_s=np.array([time_s for time_s, yes in scores if yes is not None], np.float32),
            yes=np.array([yes for _, yes in scores if yes is not None], np.float32),
            boundary_times_s=times_s,
            densities=densities,
        )

    def _windows(self, path: Path, plan: ClipPlan) -> Iterator[list[Shown]]:
        """Yield windows by the time stamp of their last frame: first after half a window, last at the clip's end.

        Only the frames of one window are held, because a clip of minutes would take gigabytes.
        """
        first_s, last_s = plan.times_s[0], plan.times_s[-1]
        ends_s = np.arange(last_s, first_s + self._asking.window_s / 2 - _SAME_S, -self._asking.stride_s)[::-1].tolist()
        if "recognition" not in self._reasoner.tasks or not ends_s:
            yield self._spread(path, plan)
            return
        held: list[Shown] = []
        for frame in read_clip(path, plan):
            while ends_s and frame.time_s > ends_s[0] + _SAME_S:
                yield self._until(ends_s.pop(0), held)
            held = [each for each in held if not ends_s or each.time_s > ends_s[0] - self._asking.window_s]
            held.append(frame)
        for end_s in ends_s:
            yield self._until(end_s, held)

    def _until(self, end_s: float, held: Sequence[Shown]) -> list[Shown]:
        return [each for each in held if end_s - self._asking.window_s < each.time_s <= end_s + _SAME_S]

    def _spread(self, path: Path, plan: ClipPlan) -> list[Shown]:
        """Read as many frames as the profile takes, spread over the whole clip."""
        chosen = spread(len(plan.times_s), self._profile.frames)
        pictures, times_s = tuple(plan.pictures[n] for n in chosen), tuple(plan.times_s[n] for n in chosen)
        return list(read_clip(path, plan._replace(pictures=pictures, times_s=times_s)))

    def _yes(self, clip: Clip, shown: Sequence[Shown]) -> float | None:
        """The probability of a crash in the frames `shown`; None for a teacher that is not asked for it."""
        self._show(clip, shown)
        if "recognition" not in self._reasoner.tasks:
            return None
        [said] = [each for each in clip.ask(["recognition"]) if isinstance(each, Answer)]
        sure = said.probability
        return None if sure is None else sure if said.value else 1 - sure

    def _boundaries(self, clip: Clip, path: Path, plan: ClipPlan) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if "crash_interval" not in self._reasoner.tasks:
            return np.zeros(0, np.float32), np.zeros((2, 0), np.float32)
        self._show(clip, self._spread(path, plan))
        for _ in clip.ask(["crash_interval"]):
            pass
        return smoothed(clip.belief("crash_interval"), plan.info.start_time_s, self._asking.smoothing_s)

    def _show(self, clip: Clip, frames: Sequence[Shown]) -> None:
        """Begin a new clip with as many of `frames` as the profile takes, spread over them as in the reference."""
        clip.reset()
        for number in spread(len(frames), self._profile.frames):
            clip.push(*frames[number])


def pool(tokens: NDArray[np.float32], cells: tuple[int, int], grid: tuple[int, int]) -> NDArray[np.float16]:
    """Means of `tokens [rows * columns, width]` over each cell of `grid`, and over all: float16 `[cells + 1, width]`.

    Rows and columns are divided as evenly as whole ones can be; the first cells take the spare ones.
    """
    picture = tokens.reshape(*cells, -1)
    rows = np.array_split(np.arange(cells[0]), grid[0])
    columns = np.array_split(np.arange(cells[1]), grid[1])
    means = [picture[np.ix_(row, column)].mean((0, 1)) for row in rows for column in columns]
    return np.stack([*means, picture.mean((0, 1))]).astype(np.float16)


def smoothed(belief: TimeBelief, zero_s: float, sigma_s: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Times since the first frame `[m]`, and smoothed densities of start and end over them `[2, m]`, each of sum 1."""
    count = len(belief.masses[0])
    reach = np.arange(count)
    kernel = np.exp(-0.5 * ((reach[:, None] - reach) * _TENTH_S / sigma_s) ** 2)
    # Mass that smoothing would push beyond an end stays inside, so that times near an end lose none.
    kernel /= kernel.sum(0)
    densities = np.stack([kernel @ (masses / masses.sum()) for masses in belief.masses])
    return (belief.first_s + reach * _TENTH_S - zero_s).astype(np.float32), densities.astype(np.float32)
