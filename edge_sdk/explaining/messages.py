"""The messages between a program and its reasoner: plain values, with pixels beside them.

Nothing here is code or can become code. A message is one of these values in MessagePack; anything else is refused.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from edge_sdk.events import Answer, Event
from edge_sdk.types import Value


class Piece(Value, frozen=True, kw_only=True, tag=True):
    """A piece of text that was added to an answer."""

    task: str
    text: str


class Reply(Value, frozen=True, kw_only=True, tag=True):
    """The whole answer to one task."""

    task: str
    answer: Answer


class ReasoningReport(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The cost of answering. `ms` has the times vision, prefill, after_last_frame and decode in milliseconds.

    The clip had `frames` of `grid` pixels, and compression kept `kept_ratio` of their tokens. `steps` calls of the
    decoders advanced the answers, and their weights were read `weight_reads` times in all. `slots` is the size of the
    largest cache. The questions were asked in `rounds`, more than one if the caches had no room for all answers
    together. `memory_mb` is what the reasoner holds, `resident_mb` the peak resident memory of its process; both are in
    10^6 bytes.
    """

    ms: dict[str, float]
    frames: int
    grid: str
    kept_ratio: float
    steps: int
    weight_reads: int
    slots: int
    rounds: int
    memory_mb: float
    resident_mb: float


class Open(Value, frozen=True, kw_only=True, tag=True):
    """Open a bundle for clips of `profile` with at most `max_frames`. This is always the first message.

    `bundle` is the bundle's folder and `sha256` the hash of its manifest. If it is `pinned`, all its files are hashed
    again. `Opened` or `Failed` answers it.
    """

    bundle: str
    sha256: str
    pinned: bool
    runtime: str
    threads: int
    device: str
    engines: str | None
    profile: str
    max_frames: int | None
    budget_mb: float | None
    priority: int


class Begin(Value, frozen=True, kw_only=True, tag=True):
    """Begin the clip `job` in `profile`, with pictures of size `source` (width, height) if that is known."""

    job: int
    profile: str
    source: tuple[int, int] | None = None


class Picture(Value, frozen=True, kw_only=True, tag=True):
    """The next picture of a clip; its RGB bytes, row by row, follow the message. `Taken` answers it."""

    job: int
    width: int
    height: int
    time_s: float


class Ask(Value, frozen=True, kw_only=True, tag=True):
    """Ask `tasks` about the clip as it is; answered by `Said` messages, and `Finished` or `Failed` at the end.

    `deadline_s` counts from the arrival of this message. Pictures that still wait after it are left out, except a
    clip's first. Times of answers count from the clip's time `zero_s`. `events` are the student's events of the clip,
    the last revision of each; None if no student watched. `evidence` is the student's highest score of the whole clip;
    None if it must not be used in answers.
    """

    job: int
    tasks: tuple[str, ...]
    deadline_s: float | None = None
    zero_s: float = 0.0
    events: tuple[Event, ...] | None = None
    evidence: float | None = None


class Drop(Value, frozen=True, kw_only=True, tag=True):
    """Abandon the clip at once; nothing answers this message."""

    job: int


class Opened(Value, frozen=True, kw_only=True, tag=True):
    """The reasoner is ready, and holds `memory_mb` of memory, in 10^6 bytes."""

    memory_mb: float


class Taken(Value, frozen=True, kw_only=True, tag=True):
    """A picture was added to the clip, or left out for lack of time."""

    job: int


class Said(Value, frozen=True, kw_only=True, tag=True):
    """A piece of an answer's text, or a whole answer."""

    job: int
    said: Piece | Reply


class Finished(Value, frozen=True, kw_only=True, tag=True):
    """Every answer was given; the clip may be extended or asked again."""

    job: int
    report: ReasoningReport


class Failed(Value, frozen=True, kw_only=True, tag=True):
    """An error ended the clip, or opening if `job` is None; `kind` is the name of its class in `edge_sdk.errors`."""

    job: int | None
    kind: str
    text: str


class Beat(Value, frozen=True, kw_only=True, tag=True):
    """The process is alive and at step number `step` of its work; 0 while it has nothing to do.

    A step is at most one run of a graph. Opening the bundle does not count as a step.
    """

    step: int = 0


Message = Open | Begin | Picture | Ask | Drop | Opened | Taken | Said | Finished | Failed | Beat


class Parcel(NamedTuple):
    """A message and the bytes that came with it."""

    message: Message
    data: bytearray


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Encode `message` as bytes."""
    return _ENCODER.encode(message)


def decode(data: bytes | bytearray) -> Message:
    """Decode the message in `data`. Raises `msgspec.DecodeError` for bytes that are no message."""
    return _DECODER.decode(data)
