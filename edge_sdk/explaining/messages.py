"""What a program and its reasoner tell each other: plain values, and pixels beside them.

Nothing here is code or can become code. A message is MessagePack of one of these values, refused when it is of none.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from edge_sdk.events import Answer, Event
from edge_sdk.types import Value


class Piece(Value, frozen=True, kw_only=True, tag=True):
    """Text that an answer has gained."""

    task: str
    text: str


class Reply(Value, frozen=True, kw_only=True, tag=True):
    """The whole answer to one task."""

    task: str
    answer: Answer


class ReasoningReport(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What answering took. `ms`: vision, prefill, after_last_frame and decode, as the reasoner measured them.

    `frames` of `grid` pixels went in, of whose tokens `kept_ratio` stayed; `steps` calls of the decoders advanced the
    answers, and `weight_reads` is how often their weights were read in all. `slots` are those of the largest cache; in
    `rounds` were the questions asked, more than one where caches had no room for all answers together. `memory_mb` is
    what the reasoner holds, `resident_mb` the most that its process had resident, 10^6 bytes.
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
    """Open the bundle in the folder `bundle`, whose manifest has `sha256`, for clips of `profile` of at most
    `max_frames`. First message of all.

    Where it is `pinned`, all its files are hashed again. `Opened` or `Failed` answers it.
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
    """Begin the clip `job` in `profile`, pictures of `source` (width, height) where that is known."""

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
    """Ask `tasks` of the clip as it is; answered by `Said`, and `Finished` or `Failed` at the end.

    `deadline_s` counts from when this arrives: pictures that still wait then are left out, but for a clip's first.
    Answers count their times from `zero_s` of the clip's. `events` are what the student made of it, the last revision
    of each; None where no student watched. `evidence` is its highest of the whole clip, None
    where it is not to go into answers.
    """

    job: int
    tasks: tuple[str, ...]
    deadline_s: float | None = None
    zero_s: float = 0.0
    events: tuple[Event, ...] | None = None
    evidence: float | None = None


class Drop(Value, frozen=True, kw_only=True, tag=True):
    """Give the clip up, at once; nothing answers it."""

    job: int


class Opened(Value, frozen=True, kw_only=True, tag=True):
    """The reasoner is ready, and holds `memory_mb`."""

    memory_mb: float


class Taken(Value, frozen=True, kw_only=True, tag=True):
    """A picture has gone into the clip, or was left out for want of time."""

    job: int


class Said(Value, frozen=True, kw_only=True, tag=True):
    """Something of an answer."""

    job: int
    said: Piece | Reply


class Finished(Value, frozen=True, kw_only=True, tag=True):
    """Every answer was given; the clip may be extended or asked again."""

    job: int
    report: ReasoningReport


class Failed(Value, frozen=True, kw_only=True, tag=True):
    """The clip, or opening where `job` is None, came to an end by the error called `kind` in `edge_sdk.errors`."""

    job: int | None
    kind: str
    text: str


class Beat(Value, frozen=True, kw_only=True, tag=True):
    """The process is alive, and at the step of its work that has the number `step`; 0 while it has nothing to do.

    A step is at most one run of a graph. Opening the bundle is none.
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
    """`message` as bytes."""
    return _ENCODER.encode(message)


def decode(data: bytes | bytearray) -> Message:
    """The message in `data`. Raises `msgspec.DecodeError` for bytes that are none."""
    return _DECODER.decode(data)
