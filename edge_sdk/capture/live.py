"""An open live source: its newest frame at any moment, without waiting.

A camera that is off is not an error: the source is `connecting`, then `backoff`, and tries again until it is closed.
Its states and their reasons can be read; they never show credentials.
"""

from __future__ import annotations

import weakref
from types import TracebackType
from typing import Literal

from edge_sdk.capture.attempts import Attempts
from edge_sdk.capture.history import FrameHistory
from edge_sdk.capture.player import LivePicture
from edge_sdk.capture.ring import GopRing
from edge_sdk.capture.settings import SourceInfo, SourceStats
from edge_sdk.capture.states import SourceChange, SourceState
from edge_sdk.capture.supervisor import Supervisor
from edge_sdk.capture.uri import LiveUri, PushSource, RtspSource
from edge_sdk.forks import only_here
from edge_sdk.hardware.clock import UtcTime, utc_of
from edge_sdk.types import CaptureTime, Frame

# Cameras stamp a picture when it leaves the sensor or the encoder, which is about a frame late.
_STAMPING_S = 0.05


class LiveSource:
    """An open live source: use it as a context manager, or call `close`. A source that is dropped closes itself.

    Only one thread at a time may call `latest`; everything else is thread-safe.
    """

    def __init__(self, attempts: Attempts) -> None:
        self._supervisor = Supervisor(attempts)
        self._clock = _clock(attempts.plan.source)
        self._first_s: float | None = None
        self._attempt = 0
        self._delivered = 0
        self._supervisor.start()
        self._finish = weakref.finalize(self, only_here(self._supervisor.close))

    @property
    def uri(self) -> str:
        """The source without credentials."""
        return self._supervisor.uri

    @property
    def state(self) -> SourceState:
        """The state now."""
        return self._supervisor.last.state

    @property
    def info(self) -> SourceInfo | None:
        """What is known about the source; None before its first picture."""
        return self._supervisor.info

    @property
    def ring(self) -> GopRing | None:
        """The encoded units that are kept, None without `pre_roll_s`."""
        return self._supervisor.ring

    @property
    def history(self) -> FrameHistory | None:
        """The RGB frames that are kept, None without `history`."""
        return self._supervisor.history

    @property
    def stats(self) -> SourceStats:
        """Counts so far over all attempts, and warnings about the source."""
        counts = self._supervisor.counts()
        return SourceStats(
            decoded=counts.decoded,
            delivered=self._delivered,
            dropped=counts.decoded - self._delivered,
            units=counts.units,
            reconnects=counts.reconnects,
            warnings=tuple(self._supervisor.warnings),
        )

    def latest(self) -> Frame | None:
        """The newest frame, each one once; None when none has come since. Never waits."""
        shown = self._supervisor.take()
        if shown is None:
            return None
        picture, restarted = shown.picture, self._delivered > 0 and shown.attempt != self._attempt
        self._attempt = shown.attempt
        if self._first_s is None:
            self._first_s = picture.captured_s
        frame = Frame(
            pixels=picture.pixels,
            time_s=picture.captured_s - self._first_s,
            sequence=self._delivered,
            captured_s=picture.captured_s,
            source=self.uri,
            capture=self._time(picture),
            restarted=restarted,
        )
        self._delivered += 1
        return frame

    def changes(self) -> list[SourceChange]:
        """Changes of state since the last call, oldest first; the first one is `connecting`."""
        return self._supervisor.changes()

    def close(self) -> None:
        """Stop and release the source; it is then `ended`, and what it kept stays readable."""
        self._finish()

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _time(self, picture: LivePicture) -> CaptureTime:
        """The capture time, with UTC by the sender's clock if known, else by this device's if NTP keeps it right."""
        taken_s, utc_s, info = picture.captured_s, picture.sender_utc_s, self.info
        here = utc_of(taken_s)
        if utc_s is not None:
            apart_s = _apart_s(here, utc_s)
            return CaptureTime(monotonic_s=taken_s, utc_s=utc_s, uncertainty_s=apart_s, source="sender")
        late_s = 1 / info.rate_hz if self._clock == "driver" and info is not None and info.rate_hz else None
        return CaptureTime(
            monotonic_s=taken_s,
            utc_s=here.utc_s if here.source == "ntp" else None,
            uncertainty_s=late_s + (here.uncertainty_s or 0.0) if late_s is not None else None,
            source=self._clock,
        )


def _apart_s(here: UtcTime, utc_s: float) -> float:
    """How far the sender's time may be off: its difference from this device's clock, and a margin.

    The true time is before arrival. If the clocks agree, it is near both; if they do not, either may be wrong.
    """
    return abs(here.utc_s - utc_s) + (here.uncertainty_s or 0.0) + _STAMPING_S


def _clock(source: LiveUri) -> Literal["arrival", "driver", "host"]:
    """Whose time stamp the pictures of this source carry before any sender report."""
    if isinstance(source, RtspSource):
        return "arrival"
    return "host" if isinstance(source, PushSource) else "driver"
