"""An open file or test pattern: an iterator of frames that begins at time 0, keeps counts and always closes.

This module knows only a `Player`, not GStreamer. The player's pipeline is released at the end of the source, on errors
and when the source is dropped.
"""

from __future__ import annotations

import time
import weakref
from types import TracebackType

from edge_sdk.capture.luma import widened
from edge_sdk.capture.player import Counters, Picture, Player
from edge_sdk.capture.settings import MAX_REPEATED_S, CaptureSettings, SourceInfo, SourceStats
from edge_sdk.errors import SourceError
from edge_sdk.forks import only_here
from edge_sdk.types import Frame

STALL_TIMEOUT_S = 30.0
_PULL_S = 0.1
# After so long without a decoded picture, check whether the pipeline has stopped.
_STOPPED_S = 1.0
_MAX_WARNINGS = 20
# A file is reported as cut off if its pictures end this long before its declared end; audio may end a little later.
_CUT_OFF_S = 0.5
# So few missing pictures are not reported: declared rates are rounded, and a picture or two may lack their keyframe.
_FEW_MISSING, _FEW_MISSING_SHARE = 3, 0.05


class Source:
    """An open source: iterate it for its frames, once; use it as a context manager, or call `close`.

    A source that is dropped without being closed closes itself. Not for two threads at once.
    """

    def __init__(self, player: Player, info: SourceInfo, settings: CaptureSettings, warnings: tuple[str, ...]) -> None:
        self.info = info
        self._player = player
        self._expand = settings.pixels == "luma" and not player.info.full_range
        self._grid_s = 1.0 / settings.rate_hz if settings.rate_hz else 0.0
        self._delivered = 0
        self._last_time_s = 0.0
        self._ended = False
        self._warnings = list(warnings)
        self._finish = weakref.finalize(self, only_here(player.close))

    @property
    def stats(self) -> SourceStats:
        """Counts so far, and warnings about the source."""
        decoded, dropped, repeated = self._player.counters() or Counters(self._delivered, 0, 0)
        return SourceStats(
            decoded=decoded,
            delivered=self._delivered,
            # the grid does not count the picture that it still holds when the file ends
            dropped=decoded + repeated - self._delivered if self._ended else dropped,
            repeated=repeated,
            warnings=tuple(self._warnings),
        )

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> Frame:
        """The next frame. Raises `StopIteration` at the end of the source, `SourceError` when it stalls."""
        if not self._finish.alive:
            raise StopIteration
        try:
            picture = self._pull()
        except EOFError:
            if self._finish.alive:  # else another thread has closed the source before its end
                self._end()
            raise StopIteration from None
        except SourceError as error:
            self._warn(f"reading was stopped: {error}")
            self.close()
            raise SourceError(f"{self.info.uri}: {error}") from error
        except BaseException:
            self.close()
            raise
        time_s = picture.stream_time_s - self._player.start_s
        frame = Frame(
            pixels=widened(picture.pixels) if self._expand else picture.pixels,
            time_s=time_s,
            sequence=self._delivered,
            captured_s=time.monotonic(),
            source=self.info.uri,
            restarted=self._after_gap(time_s),
        )
        self._delivered += 1
        self._last_time_s = frame.time_s
        return frame

    def close(self) -> None:
        """Stop and release the source; iterating it then ends, and `info` and `stats` stay readable."""
        self._finish()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pull(self) -> Picture:
        """The next picture. A decoder counts as stalled only if it decodes nothing, however slow it is."""
        progress, since_s = self._player.counters(), time.monotonic()
        while (picture := self._player.pull(_PULL_S)) is None:
            counters = self._player.counters()
            if counters != progress:
                progress, since_s = counters, time.monotonic()
            still_s = time.monotonic() - since_s
            if still_s > _STOPPED_S:
                self._raise_error()
            if still_s > STALL_TIMEOUT_S:
                raise SourceError(
                    f"no picture for {STALL_TIMEOUT_S:.0f} s, after {self._last_time_s:.2f} s of video; the storage or "
                    "the decoder hangs"
                )
        return picture

    def _after_gap(self, time_s: float) -> bool:
        """Whether the grid has left out a gap before the picture at `time_s`; if so, adds a warning."""
        # All steps of a filled grid have the same length; a step across a gap is about as long as the gap.
        if not self._grid_s or time_s - self._last_time_s <= max(MAX_REPEATED_S / 2, 1.5 * self._grid_s):
            return False
        self._warn(
            f"it has no picture between {self._last_time_s:.2f} s and {time_s:.2f} s: its time stamps are wrong, or it "
            "was paused; that time was left out"
        )
        return True

    def _raise_error(self) -> None:
        """Raise the error that stopped the pipeline, if any: behind a queue, an error does not end the stream."""
        warnings, error = self._player.problems()
        for text in warnings:
            self._warn(text)
        if error is not None:
            raise SourceError(error)

    def _end(self) -> None:
        """Note what went wrong before the end, then release the pipeline."""
        warnings, error = self._player.problems()
        for text in warnings:
            self._warn(text)
        if error is not None:
            self._warn(f"stopped after {self._last_time_s:.2f} s of video: {error}")
        declared_s, until_s = self.info.duration_s, self._pictures_until_s()
        if declared_s is not None and until_s < declared_s - _CUT_OFF_S:
            self._warn(f"the pictures end at {until_s:.2f} s but the file declares {declared_s:.2f} s: it is cut off")
        elif (missing := self._missing()) > 0:
            self._warn(
                f"about {missing} of the {self.stats.decoded + missing} pictures of its declared rate are missing: the "
                "rate varies, or the file is damaged"
            )
        self._ended = True
        self.close()

    def _missing(self) -> int:
        """At least how many pictures of the declared rate are missing; 0 if few are, or if no rate is declared."""
        if self.info.rate_hz is None:
            return 0
        # The grid's last instant may lie a step behind the last picture.
        missing = round((self._last_time_s - self._grid_s) * self.info.rate_hz) + 1 - self.stats.decoded
        return missing if missing > max(_FEW_MISSING, _FEW_MISSING_SHARE * self.stats.decoded) else 0

    def _pictures_until_s(self) -> float:
        """The earliest stream time at which the last picture can end; a decoder may not know its own position."""
        delivered_s = self._player.start_s + self._last_time_s + self._grid_s
        still_s = 1.0 / self.info.rate_hz if self.info.rate_hz else 0.0
        return max(self._player.decoded_until_s() or 0.0, delivered_s) + still_s

    def _warn(self, text: str) -> None:
        if len(self._warnings) < _MAX_WARNINGS and text not in self._warnings:
            self._warnings.append(text)
