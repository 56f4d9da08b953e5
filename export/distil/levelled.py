"""Clips of many origins in one form, so that a student cannot learn what an archive looks like.

Crash clips of one archive and normal clips of another already differ in size, sharpness and codec. The form is the one
that evaluation uses, see `edge_sdk.evaluation.detail`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from edge_sdk.clips import LabelledClip, content_of
from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.detail import Detail, content_frames, decode_footage, encode_footage
from edge_sdk.files import sha256_of


def level_clips(
    clips: Sequence[LabelledClip],
    folder: Path,
    detail: Detail | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> list[LabelledClip]:
    """Write the clips again into `folder`, in the form of `detail`; existing files are kept.

    Padding at a clip's end is cut off. Raises `SourceError` for a clip that cannot be decoded, `ConfigError` for one
    that shows nothing but one colour.
    """
    form = detail or Detail()
    levelled = []
    for done, clip in enumerate(clips, start=1):
        digest = sha256_of(clip.path)
        made_of = _made_of(digest, form)
        path = folder / f"{clip.path.stem}-{made_of[:12]}.mp4"
        if not path.is_file():
            _level(clip.path, path, form)
        levelled.append(replace(clip, path=path, made_of=made_of, copy_of=content_of(clip)))
        if on_progress is not None:
            on_progress(done, len(clips))
    return levelled


def _made_of(digest: str, form: Detail) -> str:
    """The identity of a levelled clip: a SHA-256 over its source's digest and the form."""
    return hashlib.sha256(f"{digest} {form}".encode()).hexdigest()


def _level(source: Path, target: Path, detail: Detail) -> None:
    frames = decode_footage(source, detail)
    shown = content_frames(frames, detail)
    if shown == 0:
        raise ConfigError(f"{source} shows only one colour; leave it out of the clips")
    encode_footage(frames[:shown], target, detail)
