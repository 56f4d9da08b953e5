"""From labelled clips to samples: the three ways in which real clips are shown to a scorer.

Scores on unchanged archive clips say more about the archives than about crashes, so they are reported for comparison
only; the tracks that count are `windows` and `streams`. One clip represents each recording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.detail import Bytes, Detail, content_frames, decode_footage, encode_footage, trim_footage
from edge_sdk.evaluation.samples import Footage, Kind, Sample, Track
from edge_sdk.evaluation.sets import one_per_group, set_of_clip
from edge_sdk.evaluation.streams import SHADOW_S, build_streams, no_stream
from edge_sdk.evaluation.windows import no_window, plan_windows

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Samples of every track, and the clips that gave no window or no stream, with the reason."""

    samples: tuple[Sample, ...]
    skipped: tuple[tuple[str, str], ...]


def scene_samples(clips: Sequence[LabelledClip]) -> tuple[Sample, ...]:
    """Make samples of unchanged rendered scenes; they have one source, so there is nothing to equalise.

    Raises `ConfigError` for a clip without a scene record.
    """
    return tuple(_scene(clip) for clip in clips)


def prepare(
    clips: Sequence[LabelledClip],
    folder: Path,
    *,
    sets: Mapping[str, str],
    seed: int,
    repeats: int = 1,
    folds: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Write the samples of `clips` into `folder` (made if absent) and describe them.

    `sets` maps file names to sets, as returned by `read_sets`. `repeats` is the number of random offsets per clip, each
    of which gives a stream. With `folds`, which maps every group to its fold, a stream's surroundings come from the
    clip's own fold, so a model trained on the other folds has seen none of it. Raises `SourceError` for a clip that
    cannot be decoded, `ConfigError` without clips, and for two clips whose paths differ only in folder or extension.
    """
    if not clips:
        raise ConfigError("there is no clip to evaluate")
    chosen = one_per_group(clips)
    _refuse_equal_names(chosen)
    form, tell = Detail(), progress or silent
    for name in ("whole", "windows", "streams"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as scratch:
        footage: list[Footage] = []
        samples: list[Sample] = []
        for done, clip in enumerate(chosen):
            tell("decode", done, len(chosen))
            item = _footage(clip, set_of_clip(clip, sets), form, Path(scratch))
            footage.append(item)
            samples.append(_whole_of(item, folder / "whole"))
        samples += _windows(footage, folder / "windows", seed, tell)
        samples += _streams(footage, folder / "streams", seed, repeats, folds or {}, tell)
    return Prepared(samples=tuple(samples), skipped=_skipped(footage, samples, folds or {}))


def silent(_stage: str, _done: int, _of: int) -> None:
    """Ignore progress."""


def clip_stem(sample: Path) -> str:
    """Return the stem, which may contain dots, of the clip that a window's or stream's sample was made from."""
    return sample.stem.rpartition(".")[0]


def _refuse_equal_names(clips: Sequence[LabelledClip]) -> None:
    """Refuse equal stems: samples are named by them, so one clip's frames would get the other's label."""
    for stem, count in Counter(clip.path.stem for clip in clips).items():
        if count > 1:
            raise ConfigError(
                f"{count} clips are named {stem!r}, and a sample has only this name; rename all but one of them"
            )


def _footage(clip: LabelledClip, name: str, detail: Detail, scratch: Path) -> Footage:
    """Decode once; frames stay on disk, because those of a whole archive do not fit into a small machine's memory."""
    frames = decode_footage(clip.path, detail)
    file = scratch / f"{clip.path.stem}.npy"
    np.save(file, frames[: content_frames(frames, detail)])
    shown: Bytes = np.load(file, mmap_mode="r", allow_pickle=False)
    return Footage(clip=clip, set=name, frames=shown, decoded=len(frames), detail=detail)


def _whole_of(item: Footage, folder: Path) -> Sample:
    """Use the clip itself, or a copy without flat padding at its end, which would look like a sudden change."""
    path = item.clip.path
    if 0 < len(item.frames) < item.decoded:
        path = folder / f"{path.stem}.mp4"
        trim_footage(item.clip.path, path, len(item.frames), item.detail)
    return _whole(item.clip, path, item.set, item.content_s)


def _windows(footage: Sequence[Footage], folder: Path, seed: int, tell: Progress) -> Iterator[Sample]:
    windows = plan_windows(footage, seed)
    for done, window in enumerate(windows):
        tell("windows", done, len(windows))
        item, length_s = window.footage, window.end_s - window.begin_s
        path = folder / f"{item.clip.path.stem}.{window.kind}.mp4"
        encode_footage(item.cut(window.begin_s, window.end_s), path, item.detail)
        yield _sample(item, path, "windows", window.kind, length_s, window.begin_s, length_s)


def _streams(
    footage: Sequence[Footage], folder: Path, seed: int, repeats: int, folds: Mapping[str, int], tell: Progress
) -> Iterator[Sample]:
    for done, item in enumerate(footage):
        tell("streams", done, len(footage))
        around = _around(item, footage, folds)
        for stream in build_streams([item], around, seed, repeats):
            path = folder / f"{item.clip.path.stem}.{stream.repeat}.mp4"
            encode_footage(stream.frames, path, item.detail)
            kind: Kind = "crash" if item.clip.crash else "normal"
            duration_s = len(stream.frames) / item.detail.rate_hz
            sample = _sample(item, path, "streams", kind, duration_s, stream.drop_s - stream.begin_s, stream.end_s)
            shadows = ((stream.begin_s, stream.begin_s + SHADOW_S), (stream.end_s, stream.end_s + SHADOW_S))
            yield replace(sample, scored_s=(stream.begin_s, stream.end_s), shadows_s=shadows)


def _around(item: Footage, footage: Sequence[Footage], folds: Mapping[str, int]) -> list[Footage]:
    """Return the normal footage of the same fold."""
    fold = folds.get(item.clip.group)
    return [other for other in footage if not other.clip.crash and folds.get(other.clip.group) == fold]


def _sample(
    item: Footage, path: Path, track: Track, kind: Kind, duration_s: float, origin_s: float, limit_s: float
) -> Sample:
    """Make a sample whose time 0 is the clip's `origin_s`; a labelled end after `limit_s` is cut to it."""
    clip, crash = item.clip, kind == "crash"
    known = clip.start_s is not None and crash
    return Sample(
        path=path,
        track=track,
        kind=kind,
        set=item.set,
        view=clip.view,
        group=clip.group,
        duration_s=duration_s,
        start_s=clip.start_s - origin_s if known and clip.start_s is not None else None,
        end_s=min(clip.end_s - origin_s, limit_s) if crash and clip.end_s is not None else None,
        warning_s=max(0.0, clip.pre_crash_s - origin_s) if crash and clip.pre_crash_s is not None else None,
    )


def _scene(clip: LabelledClip) -> Sample:
    if clip.record is None:
        raise ConfigError(f"{clip.path.name} has no scene record; real clips go through `prepare`")
    return _whole(clip, clip.path, set_of_clip(clip, {}), clip.record.duration_s)


def _whole(clip: LabelledClip, path: Path, name: str, duration_s: float) -> Sample:
    return Sample(
        path=path,
        track="whole",
        kind="crash" if clip.crash else "normal",
        set=name,
        view=clip.view,
        group=clip.group,
        duration_s=duration_s,
        start_s=clip.start_s,
        end_s=clip.end_s,
        warning_s=clip.pre_crash_s,
    )


def _skipped(
    footage: Sequence[Footage], samples: Sequence[Sample], folds: Mapping[str, int]
) -> tuple[tuple[str, str], ...]:
    """List the clips that gave no window or no stream, with the reason."""
    used = {(sample.track, clip_stem(sample.path)) for sample in samples}
    skipped = []
    for item in footage:
        name = item.clip.path.stem
        if ("windows", name) not in used:
            skipped.append((name, f"no window: {no_window(item)}"))
        if ("streams", name) not in used:
            skipped.append((name, f"no stream: {no_stream(item, _around(item, footage, folds))}"))
    return tuple(skipped)
