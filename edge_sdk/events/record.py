"""The event record: one JSON object, the same on the command line, in the store and in the sinks.

An unknown part is null, never absent. Times of the timeline are seconds since the source's first decoded frame. Later
releases may add keys without changing `schema`, so readers must ignore keys that they do not know.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

import msgspec

from edge_sdk.errors import ConfigError, UnknownNameError
from edge_sdk.tasks import AnswerForm
from edge_sdk.types import CaptureTime, Estimate, Value

Span = tuple[float, float]
State = Literal["provisional", "confirmed", "refined", "closed", "rejected"]


class CrashTimeline(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """When the crash became foreseeable, began and was over; each with its central 80 % interval."""

    pre_crash_start: Estimate | None = None
    crash_start: Estimate | None = None
    crash_end: Estimate | None = None


class EventTime(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """When this revision was made: `monotonic_s` on this device's monotonic clock, `utc` in ISO 8601.

    `utc` is null if no clock tells the source's time, as for a file. `uncertainty_s` is half the width of the interval
    that holds the true time, null if nothing bounds it; `source` is what disciplines the clock. `capture` is when the
    picture was taken whose scores made the revision, null for the last revisions of a source that has ended or stopped
    showing pictures. `zero` is when the source's first picture was taken, which is time 0 of the timeline, as far as
    the clock was known at this revision; null for a file.
    """

    monotonic_s: float
    utc: str | None = None
    uncertainty_s: float | None = None
    source: Literal["none", "system", "ntp", "ptp", "gnss"] = "none"
    capture: CaptureTime | None = None
    zero: CaptureTime | None = None


class EventClip(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The recording around the event: what was asked for and what was delivered.

    `pre_s` is how many seconds it holds before the crash or trigger, below 0 if it begins after that; `asked_pre_s` is
    how many were asked for. `post_s` is how many it holds afterwards. The file begins at `start_s` of the timeline, so
    a player shows the time `t` of the timeline at `t - start_s`. `gaps_s` are spans of the timeline without pictures,
    given whole even if one reaches beyond the file. `sha256` is of the file's bytes. Values that another recorder did
    not give are null.
    """

    uri: str
    start_s: float | None = None
    pre_s: float
    asked_pre_s: float | None = None
    post_s: float
    gaps_s: tuple[Span, ...]
    sha256: str


class Answer(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """One answer of the video language model.

    `value` is a bool for the form `yes_no`, seconds for `time`, (start, end) for `interval`, and null for `text` and
    for an answer that was not read to its end; `lo` and `hi` bound its central 80 %. These are times of the timeline.
    `text` is the model's own, by greedy decoding; seconds in it count as in the prompt. The `value` of a time or
    an interval is the best choice given everything that the model believes. `probability` is that of the given answer,
    or for a time or an interval that it is right; it is a true probability if `calibrated`. `tokens` is how many tokens
    were taken in for the answer, from pictures of `grid` pixels ("364x196").
    `abstain`: do not rely on the answer. `contradiction`: it contradicts another answer or the student's timeline; null
    if there was nothing to compare with.
    `with_student`: the student's own evidence went into `value`, `probability`, `lo` and `hi`, and a text says nothing
    that contradicts what student and model together find more likely.
    `prompt_sha256` is of the question's text in UTF-8.
    """

    form: AnswerForm
    value: bool | float | Span | None
    text: str
    probability: float | None
    calibrated: bool
    lo: float | Span | None
    hi: float | Span | None
    tokens: int
    grid: str | None
    abstain: bool
    contradiction: bool | None
    with_student: bool = False
    model: str
    prompt_sha256: str


class DeviceState(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """State of the device when the revision was made; null for a sensor that gave no value."""

    power_mode: str | None = None
    throttled: bool | None = None
    temperature_c: float | None = None


class Provenance(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What produced the event; null if unknown, for example because an earlier release did not write it.

    `runtime` computed the student's scores. `runtime_version` is the version of the package behind it, null if there is
    none. `engine_sha256` is of the engine file that it ran, null if it opened the bundle's graph itself.
    `config_sha256` is of the student as the bundle's manifest describes it, at the point named `operating_point`.
    `sdk` is this SDK's version. `device` is the model of the board or computer as its firmware names it, null if the
    firmware does not; it holds no serial number or host name, which would reveal the owner.
    """

    bundle: str
    bundle_sha256: str
    runtime: str
    runtime_version: str | None = None
    engine_sha256: str | None = None
    config_sha256: str
    operating_point: str | None = None
    sdk: str | None = None
    device: str | None = None


class Event(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """One revision of one event.

    An event by hand (`trigger` is "manual") began at `triggered_s` of the timeline, which is null for the student's
    events. Its boundaries are null, because nobody looked for a crash; its `score` is the student's highest about that
    time.
    """

    schema: Literal[1] = 1
    id: str
    revision: int
    state: State
    source: str
    timeline: CrashTimeline
    score: float
    calibrated: bool
    trigger: Literal["student", "manual"]
    triggered_s: float | None = None
    time: EventTime
    clip: EventClip | None = None
    reasoning: dict[str, Answer] | None = None
    latency_ms: dict[str, float] | None = None
    device: DeviceState | None = None
    provenance: Provenance

    @property
    def happened(self) -> CrashTimeline:
        """Where to look for the event: its timeline, or for an event by hand its trigger as the start of a crash."""
        if self.triggered_s is None:
            return self.timeline
        return CrashTimeline(crash_start=Estimate(t=self.triggered_s, lo=self.triggered_s, hi=self.triggered_s))

    @property
    def began_s(self) -> float:
        """The timeline time, s, that its clip counts from: the crash or trigger, else the pre-crash start, else 0."""
        begin = self.happened.crash_start or self.timeline.pre_crash_start
        return 0.0 if begin is None else begin.t

    @property
    def evidence(self) -> float | None:
        """The score that answers may take into account, once the student has seen the whole event.

        None for an event that goes on, because its score may still rise, for one that was rejected or triggered by
        hand, and if the score is not a probability.
        """
        seen = self.state == "closed" and self.trigger == "student" and self.calibrated
        return self.score if seen else None

    def when(self, t: float) -> CaptureTime | None:
        """When the picture at `t` of the timeline, such as `crash_start.t`, was taken; None for a file.

        `utc_s` is None if no clock vouches for it; `monotonic_s` is always set, and valid until the device restarts.
        """
        return None if self.time.zero is None else shifted(self.time.zero, t)

    def to_json(self) -> str:
        """The event as one line of JSON."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Event:
        """The event that `to_json` of this or a later release wrote; unknown keys are ignored.

        Raises `ConfigError` for anything else, and for an event of another `schema`.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise ConfigError(
                f"expected an event of schema 1 as JSON, found something else ({error}); give it as `to_json` or "
                "`edge-sdk run` wrote it"
            ) from error


def shifted(time: CaptureTime, by_s: float) -> CaptureTime:
    """The instant `by_s` seconds after `time`, by the same clocks."""
    utc_s = None if time.utc_s is None else time.utc_s + by_s
    return msgspec.structs.replace(time, monotonic_s=time.monotonic_s + by_s, utc_s=utc_s)


def check_states(states: Collection[State]) -> frozenset[State]:
    """The `states` as a set. Raises `UnknownNameError` for a name that is not an event state."""
    known: tuple[State, ...] = get_args(State)
    for each in states:
        if each not in known:
            raise UnknownNameError("event state", str(each), list(known))
    return frozenset(states)
