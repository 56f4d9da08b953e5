"""Scorers that see little or no content: a student's numbers mean nothing unless it beats them.

None is fitted, except the constant interval, which is given the best possible answer. They share the frame times of one
decode at 10 Hz.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk.evaluation.motion import RATE_HZ, Floats, Motion, read_motion, z_scores, z_scores_so_far
from edge_sdk.evaluation.scorer import ClipScores, Guess, Scorer

# Raise it when a baseline's answers change: scores on disk are valid for one version.
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Trivial:
    """A baseline: `answer` turns a file's motion and shape into scores."""

    name: str
    answer: Callable[[Motion], ClipScores]

    def __call__(self, path: Path) -> ClipScores:
        """Score the clip at `path`. Raises `SourceError` if nothing can be decoded."""
        return self.answer(read_motion(path))


def trivial_scorers() -> tuple[Scorer, ...]:
    """Return all baselines that need no fitting, in the order of the tables."""
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
    """Give every clip and every frame the same score: the chance level."""
    return blind(file, 0.0)


def clip_middle(file: Motion) -> ClipScores:
    """Guess that the crash starts in the middle of the clip, where people who cut clips often put it."""
    middle = Guess(start_s=duration_s(file) / 2)
    return blind(file, 0.0, guesses=(middle,))


def clock(file: Motion) -> ClipScores:
    """Score frames by the seconds since the first frame: the longer a clip has run, the more likely a crash."""
    return ClipScores(frame_times_s=file.times_s, crash=file.times_s, score=float(file.times_s[-1]))


def motion_energy(file: Motion) -> ClipScores:
    """Score frames by the mean absolute luma change of the picture; the crash starts where it is largest."""
    return moving(file, file.whole, file.whole)


def block_motion(file: Motion) -> ClipScores:
    """Score frames by their most unusual block given earlier frames; the start is the most unusual in the clip."""
    return moving(file, z_scores_so_far(file.blocks).max(axis=1), z_scores(file.blocks).max(axis=1))


def moving(file: Motion, crash: Floats, start: Floats) -> ClipScores:
    """Answer with frame scores `crash [n]`, their maximum, and all frames as guesses, highest `start` first."""
    guesses = tuple(Guess(start_s=float(file.times_s[i])) for i in np.argsort(-start, kind="stable"))
    return ClipScores(frame_times_s=file.times_s, crash=crash, score=float(crash.max()), guesses=guesses)


def constant_interval(interval_s: tuple[float, float]) -> ClipScores:
    """Answer with the same (start, end) for every clip."""
    nothing = np.zeros(0)
    guess = Guess(start_s=interval_s[0], end_s=interval_s[1])
    return ClipScores(frame_times_s=nothing, crash=nothing, score=0.0, guesses=(guess,))


def blind(file: Motion, score: float, *, guesses: tuple[Guess, ...] = ()) -> ClipScores:
    """Answer with the same score in every frame."""
    crash = np.full(file.times_s.shape, score)
    return ClipScores(frame_times_s=file.times_s, crash=crash, score=score, guesses=guesses)


def duration_s(file: Motion) -> float:
    """Return the length of what was decoded in seconds, including the last frame."""
    return float(file.times_s[-1]) + 1 / RATE_HZ
