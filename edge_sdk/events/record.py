"""The event record: one JSON object, the same on the command line, in the store and in the sinks.

An unknown part is null, never absent. Times of the timeline are seconds since the source's first decoded frame. Later
releases add keys without another `schema`, so that a reader passes over those that it does not know.
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
    """When it became foreseeable, when it began and when it was over; each with its central 80 % interval."""

    pre_crash_start: Estimate | None = None
    crash_start: Estimate | None = None
    crash_end: Estimate | None = None


class EventTime(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """When this revision was made: `monotonic_s` on this device's monotonic clock, `utc` in ISO 8601.

    `utc` is null where no clock speaks for the source, as for a file. `uncertainty_s` is half the width of the interval
    that holds the true time, null when nothing bounds it; `source` is what disciplines the clock. `capture` is when the
    picture was taken whose scores made the revision, null for the last revisions of a source that has ended or shows
    nothing any more. `zero` is when the source's first picture was taken, from which the timeline counts, by what is
    known of its clock at this revision; null for a file.
    """

    monotonic_s: float
    utc: str | None = None
    uncertainty_s: float | None = None
    source: Literal["none", "system", "ntp", "ptp", "gnss"] = "none"
    capture: CaptureTime | None = None
    zero: CaptureTime | None = None


class EventClip(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The recording around the event: what was asked and what was delivered.

    `pre_s` is how much it holds before the crash or the trigger, below 0 where it begins after it, of `asked_pre_s`;
    `post_s` is how much it holds behind. It begins at `start_s` of the timeline, of which a time `t` is at
    `t - start_s` in a player. `gaps_s` are spans of the timeline in which no picture came, whole even where one reaches
    beyond the file; `sha256` is of the file's bytes. What another recorder has not told is null.
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

    `value` is a bool for the form `yes_no`, seconds for `time`, (start, end) for `interval`, null for `text` and for an
    answer that was not read to its end; `lo` and `hi` bound its central 80 %. These are times of the timeline's clock;
    `text` is the model's own by greedy decoding, whose seconds count as its prompt did; the `value` of a time or an
    interval is what serves best by all that the model believes. `probability` is that of the answer given, of a time or
    an interval that it is right, and means what it says where `calibrated`. `tokens` were taken in for it, from
    pictures of `grid` pixels ("364x196").
    `abstain`: do not rely on it. `contradiction`: it speaks against another answer or the student's
    timeline, null where there was nothing to compare with.
    `with_student`: the student's own evidence went into `value`, `probability`, `lo` and `hi`, and a text says nothing
    that belies what both hold for likelier.
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
    """State of the device when the revision was made; null where a sensor is silent."""

    power_mode: str | None = None
    throttled: bool | None = None
    temperature_c: float | None = None


class Provenance(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What produced the event; null is what is not known, as all that an earlier release did not write.

    `runtime` computed the student's scores: `runtime_version` is that of the package behind it, null where there is
    none, and `engine_sha256` of the file of the engine that it ran, null where it opens the bundle's graph itself.
    `config_sha256` is of the student as the bundle's manifest describes it, at the point named `operating_point`.
    `sdk` is this SDK's version. `device` is the model of the board or computer as its firmware names it, null where
    that is silent; no serial number and no host's name, which would tell whose it is.
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

    An event by hand (`trigger` is "manual") began at `triggered_s` of the timeline's clock, null for the student's. Its
    timeline is null, as nobody has looked for a crash; its `score` is the student's highest about that time.
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
        """When to look for it: the timeline, or of an event by hand its trigger in the place of a crash."""
        if self.triggered_s is None:
            return self.timeline
        return CrashTimeline(crash_start=Estimate(t=self.triggered_s, lo=self.triggered_s, hi=self.triggered_s))

    @property
    def began_s(self) -> float:
        """The second of the timeline from which its clip counts: of its crash or trigger, or what is known of it."""
        begin = self.happened.crash_start or self.timeline.pre_crash_start
        return 0.0 if begin is None else begin.t

    @property
    def evidence(self) -> float | None:
        """The score as answers may take it into account: when the student has seen the whole of the event.

        None for one that goes on, whose score may still rise, for one that was rejected or triggered by hand, and where
        the score is no probability.
        """
        seen = self.state == "closed" and self.trigger == "student" and self.calibrated
        return self.score if seen else None

    def when(self, t: float) -> CaptureTime | None:
        """When the picture at `t` of the timeline was taken, as `crash_start.t`; None for a file, which does not know.

        `utc_s` is None where no clock vouches for it; `monotonic_s` is known always, until the device is started anew.
        """
        return None if self.time.zero is None else shifted(self.time.zero, t)

    def to_json(self) -> str:
        """The event as one line of JSON."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Event:
        """The event that `to_json` of this or a later release wrote; keys that are not known here are passed over.

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
    """The `states` as a set. Raises `UnknownNameError` for one that no event is ever in."""
    known: tuple[State, ...] = get_args(State)
    for each in states:
        if each not in known:
            raise UnknownNameError("event state", str(each), list(known))
    return frozenset(states)
