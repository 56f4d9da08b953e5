"""Scorers that see no content, or nearly none: what a student has to beat before its numbers mean anything.

None is fitted, except the constant interval, which is told the best answer there is. Their frame times are those of a
10 Hz decode, which they share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk.evaluation.motion import RATE_HZ, Floats, Motion, read_motion, z_scores, z_scores_so_far
from edge_sdk.evaluation.scorer import ClipScores, Guess, Scorer

# To be raised when a baseline answers otherwise: scores on disk are those of one version.
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Trivial:
    """A baseline: `answer` turns what is known of a file into scores."""

    name: str
    answer: Callable[[Motion], ClipScores]

    def __call__(self, path: Path) -> ClipScores:
        """Score the clip at `path`. Raises `SourceError` where nothing can be decoded."""
        return self.answer(read_motion(path))


def trivial_scorers() -> tuple[Scorer, ...]:
    """All baselines that need no fitting, in the order in which tables show them."""
    return (
        Trivial(name="constant", answer=constant),
        Trivial(name="clip middle", answer=clip_middle),
        Trivial(name="clock", answer=clock),
        Trivial(name="motion energy", answer=motion_energy),
        Trivial(name="block motion", answer=block_motion),
        Trivial(name="shape: square", answer=lambda file: blind(file, -abs(math.log(file.width / file.height)))),
        Trivial(name="shape: short", answer=lambda file: blind(file, -duration_s(file))),
        Trivial(name="shape: small file", answer=lambda file: blind(file, -float(file.size_bytes))),
        Trivial(name="shape: few pixels", answer=lambda file: blind(file, -float(file.width * file.height))),
    )


def constant(file: Motion) -> ClipScores:
    """The same score for every clip and every frame: where chance lies."""
    return blind(file, 0.0)


def clip_middle(file: Motion) -> ClipScores:
    """The crash starts in the middle of the clip, as people who cut clips like to have it."""
    middle = Guess(start_s=duration_s(file) / 2)
    return blind(file, 0.0, guesses=(middle,))


def clock(file: Motion) -> ClipScores:
    """The longer a clip has run, the more likely the crash is on: seconds since the first frame."""
    return ClipScores(frame_times_s=file.times_s, crash=file.times_s, score=float(file.times_s[-1]))


def motion_energy(file: Motion) -> ClipScores:
    """Mean absolute luma change of the picture; the crash starts where it is largest."""
    return moving(file, file.whole, file.whole)


def block_motion(file: Motion) -> ClipScores:
    """The most unusual block: frames against what came before, the start against the whole clip."""
    return moving(file, z_scores_so_far(file.blocks).max(axis=1), z_scores(file.blocks).max(axis=1))


def moving(file: Motion, crash: Floats, start: Floats) -> ClipScores:
    """Frame scores `crash [n]`, the highest of which speaks for the clip; frames as guesses, highest `start` first."""
    guesses = tuple(Guess(start_s=float(file.times_s[i])) for i in np.argsort(-start, kind="stable"))
    return ClipScores(frame_times_s=file.times_s, crash=crash, score=float(crash.max()), guesses=guesses)


def constant_interval(interval_s: tuple[float, float]) -> ClipScores:
    """The answer of a scorer that says (start, end) of every clip, whatever the clip."""
    nothing = np.zeros(0)
    guess = Guess(start_s=interval_s[0], end_s=interval_s[1])
    return ClipScores(frame_times_s=nothing, crash=nothing, score=0.0, guesses=(guess,))


def blind(file: Motion, score: float, *, guesses: tuple[Guess, ...] = ()) -> ClipScores:
    """An answer that is the same in every frame."""
    crash = np.full(file.times_s.shape, score)
    return ClipScores(frame_times_s=file.times_s, crash=crash, score=score, guesses=guesses)


def duration_s(file: Motion) -> float:
    """Length of what was decoded, the last picture included."""
    return float(file.times_s[-1]) + 1 / RATE_HZ
