"""Show the frames of an event on a live source to the reasoner while they come.

Work begins when the event is provisional, so that little is left to do when someone asks about it. The work may be in
vain: the event may be rejected, another event may occupy the reasoner, or the process may die. None of this is an error
until someone asks; then work starts over, on the frames that `KeptFrames` has copied meanwhile. So a bundle that takes
a minute to open, or a reasoner slower than the camera, still finds them all.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import suppress

from edge_sdk.bundle.manifest_language import VisionProfile
from edge_sdk.capture import HistorySettings
from edge_sdk.errors import EdgeError, RuntimeFailure
from edge_sdk.events import Event
from edge_sdk.explaining.kept import KeptFrames
from edge_sdk.explaining.messages import Piece, ReasoningReport, Reply
from edge_sdk.explaining.process import ReasonerProcess
from edge_sdk.explaining.request import ClipRequest, Deadline

KEEP_S = 15.0
_POLL_S = 0.05
# Time for a thread that waits for frames to notice that it must end, with a margin.
_LEAVE_S = 4 * _POLL_S
# Frames are kept in the aspect ratio of most cameras; the model's own is a little wider.
_WIDE = 16 / 9


def history_settings(profile: VisionProfile) -> HistorySettings:
    """Return settings to keep frames for `profile`: 16:9, at least twice the model's size, at the profile's rate."""
    height = 2 * max(profile.height, round(profile.width / _WIDE))
    return HistorySettings(width=2 * round(height * _WIDE / 2), height=height, rate_hz=profile.rate_hz, keep_s=KEEP_S)


class LiveClip:
    """The frames of one event, shown to the reasoner. For another question, make another clip of the same frames."""

    def __init__(self, process: ReasonerProcess, kept: KeptFrames) -> None:
        """Prepare the clip; nothing is shown yet."""
        self.kept = kept
        self._process = process
        self._stopped, self._dropped = threading.Event(), False
        self._deadline = Deadline(None)
        self._request: ClipRequest | None = None
        self._thread: threading.Thread | None = None
        self._pushed = 0

    def follow(self) -> None:
        """Show frames to the reasoner as they are kept, on a separate thread, until `ask` or `drop`."""
        self._thread = threading.Thread(target=self._follow, name="edge-sdk reasoning", daemon=True)
        self._thread.start()

    def ask(
        self,
        tasks: Sequence[str],
        *,
        events: Sequence[Event] | None,
        evidence: float | None = None,
        deadline_s: float | None,
        wait_s: float,
    ) -> Generator[Piece | Reply | ReasoningReport, None, None]:
        """Yield answers about the frames that have come; times of answers count from the source's first frame.

        For `deadline_s` see `explain_file`. Raises `SourceError` if the frames of the crash are gone, and what
        `ClipRequest` raises.
        """
        self._deadline = deadline = Deadline(deadline_s)
        try:
            ended = self._stop(deadline.left_s())
            request = self._whole(self.kept.history.next, deadline.within_s(wait_s)) if ended else self._as_it_is()
            zero_s = self.kept.first_s - self.kept.frames[0].captured_s
            yield from request.ask(tasks, deadline_s=deadline.left_s(), zero_s=zero_s, events=events, evidence=evidence)
            if request.report is not None:
                yield request.report
        finally:
            self._forget()

    def drop(self) -> None:
        """Abandon the work without waiting."""
        self._dropped = True
        self._stopped.set()
        self._forget()

    def _stop(self, within_s: float | None) -> bool:
        """Tell the following thread to end, and return whether it did so in time."""
        self._stopped.set()
        if self._thread is None:
            return True
        self._thread.join(within_s if within_s is None else max(within_s, _LEAVE_S))
        return not self._thread.is_alive()

    def _as_it_is(self) -> ClipRequest:
        """Return the request of a thread that is still working. Raises `RuntimeFailure` if no frame was shown yet."""
        if self._request is not None and self._pushed:
            return self._request
        self._dropped = True
        raise RuntimeFailure("the reasoner was not ready before the deadline; ask again later, or give it more time")

    def _follow(self) -> None:
        try:
            request = self._begin(0.0, Deadline(None))
            while not self._stopped.wait(_POLL_S) and not (self.kept.full and self._pushed == len(self.kept.frames)):
                self._extend(request, self.kept.history.next)
        except EdgeError:
            self._dropped = True
        if self._dropped:
            self._forget()

    def _whole(self, end: int, wait_s: float) -> ClipRequest:
        """Return a request with all frames before the number `end`: the following thread's, or else a new one."""
        self.kept.keep()  # before the time it may take to wait for a turn and open the model
        if self._request is not None:
            with suppress(EdgeError):
                self._extend(self._request, end)
                self._request.check()
                return self._request
            self._forget()
        request = self._begin(wait_s, self._deadline)
        self._extend(request, end)
        return request

    def _begin(self, wait_s: float, deadline: Deadline) -> ClipRequest:
        settings = self.kept.history.settings
        size = settings.width, settings.height
        self._request = request = self._process.begin(source=size, wait_s=wait_s, until_s=deadline.until_s)
        self._pushed = 0
        return request

    def _extend(self, request: ClipRequest, end: int) -> None:
        """Push the frames before the number `end` that were not pushed yet, at least one; stops early when told to."""
        frames = self.kept.frames
        while self._pushed < len(frames) and (not self._pushed or frames[self._pushed].number < end):
            frame = frames[self._pushed]
            time_s = frame.captured_s - frames[0].captured_s
            if not request.push(frame.pixels, time_s, until_s=self._deadline.until_s):
                return
            self._pushed += 1
            if self._leaving() or self._deadline.over:
                return

    def _leaving(self) -> bool:
        """Return whether the calling thread is the following thread and was told to end."""
        return self._stopped.is_set() and threading.current_thread() is self._thread

    def _forget(self) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.close()
