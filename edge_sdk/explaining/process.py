"""The reasoner in its own process: clips go in, answers come out, and a crash of the process costs one request.

The process works on one clip at a time, because a clip's cache takes most of the memory. A second request waits, or is
refused with a description of the running one. The process is started when first needed, and again after it has died.
Only a few pictures are pushed ahead, so that the queue stays small and a dropped request ends at the next chunk of
work.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType

from edge_sdk.bundle import Bundle
from edge_sdk.errors import Cancelled, ConfigError, RuntimeFailure
from edge_sdk.explaining.child import Child
from edge_sdk.explaining.messages import Begin, Message, Open
from edge_sdk.explaining.request import ClipRequest
from edge_sdk.explaining.settings import ReasonerSettings, language_of, profile_of
from edge_sdk.forks import check_here, only_here
from edge_sdk.registry import check_runtime


class ReasonerClosedError(ConfigError):
    """A reasoner was used after it was closed."""


@contextmanager
def while_open() -> Iterator[None]:
    """Raise `Cancelled` if the reasoner is closed during a question that began while it was open."""
    try:
        yield
    except ReasonerClosedError as error:
        raise Cancelled("this reasoner was closed while a question was on its way") from error


class ReasonerProcess:
    """The reasoner of one bundle. Use as a context manager, or call `close`; any thread may use it."""

    def __init__(
        self, bundle: Bundle, settings: ReasonerSettings | None = None, *, max_frames: int | None = None
    ) -> None:
        """Check the settings; no process is started yet.

        Caches are chosen for clips of `max_frames`, None for the number of the profile; of a longer clip they hold as
        much as fits. Raises `BundleError` for a bundle without a language part, and `UnknownNameError` for a runtime
        that does not exist and a profile that the bundle does not have.
        """
        self.settings = settings or ReasonerSettings()
        check_runtime(self.settings.runtime)
        self.bundle, self.language = bundle, language_of(bundle)
        self.profile = profile_of(self.language, self.settings)
        # Always a number, so that caches too small for the clip are refused at once instead of late in the clip.
        self._max_frames = self.language.profiles[self.profile].frames if max_frames is None else max_frames
        self._children: list[Child] = []
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._request: ClipRequest | None = None
        self._count, self._pid = 0, os.getpid()
        self._finish = weakref.finalize(self, only_here(partial(_close, self._children)))

    @property
    def pid(self) -> int | None:
        """The id of the process; None while there is none."""
        with self._lock:
            return self._children[0].pid if self._children and not self._children[0].ended else None

    def start(self) -> None:
        """Start the process unless it is running; it opens the bundle while the caller continues."""
        self._living()

    def begin(
        self,
        *,
        profile: str | None = None,
        source: tuple[int, int] | None = None,
        wait_s: float = 0.0,
        until_s: float | None = None,
    ) -> ClipRequest:
        """Begin a new clip with pictures of size `source` (width, height), if known; the caller must close it.

        `profile` defaults to the reasoner's own. Raises `RuntimeFailure` if another clip is worked on for longer than
        `wait_s`, or if the bundle is not open at `until_s` on the monotonic clock; opening then continues. Raises what
        opening the bundle raises: `ConfigError` for a budget that is too small, `MissingDependencyError`,
        `BundleError`, and others. Raises `Cancelled` if the reasoner is closed meanwhile, and `ConfigError` if it was
        closed before, but see `while_open`, if it was made in another process, and for a `wait_s` of NaN.
        """
        if math.isnan(wait_s):
            raise ConfigError("expected wait_s in seconds, found nan; give 0 to wait for nobody")
        wait_s = min(max(float(wait_s), 0.0), threading.TIMEOUT_MAX)
        # Wait before taking a turn, so that a caller who gives up while the bundle opens delays nobody.
        self._living().wait_open(until_s)
        if until_s is not None:
            wait_s = max(0.0, min(wait_s, until_s - time.monotonic()))
        if not self._turn.acquire(timeout=wait_s):
            busy = self._request
            raise RuntimeFailure(
                f"the reasoner is busy{busy.describe() if busy else ''}; wait for it, or close that request first"
            )
        try:
            if not self._finish.alive:
                raise Cancelled("this reasoner was closed while a question waited for its turn")
            child = self._living()
            child.wait_open(until_s)
            self._count += 1
            self._request = request = ClipRequest(child, self._count, self._release)
            child.send(Begin(job=request.number, profile=profile or self.profile, source=source))
        except BaseException:
            self._release()
            raise
        return request

    def close(self) -> None:
        """End the process; a clip in progress fails."""
        with self._lock:
            self._finish()

    def __enter__(self) -> ReasonerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _living(self) -> Child:
        """Return the process, restarted if it has died."""
        check_here(self._pid)
        with self._lock:
            if not self._finish.alive:
                raise ReasonerClosedError("this reasoner was closed; make another")
            if self._children and self._children[0].ended:
                _close(self._children)
            if not self._children:
                here = weakref.ref(self)
                child = Child(self._opening(), self.settings, lambda message: _hand_on(here, message))
                self._children.append(child)
            return self._children[0]

    def _opening(self) -> Open:
        settings = self.settings
        return Open(
            bundle=str(self.bundle.folder),
            sha256=self.bundle.sha256,
            pinned=self.bundle.pinned,
            runtime=settings.runtime,
            threads=settings.threads,
            device=settings.device,
            engines=str(settings.engines) if settings.engines is not None else None,
            profile=self.profile,
            max_frames=self._max_frames,
            budget_mb=settings.budget_mb,
            priority=settings.priority,
        )

    def _release(self) -> None:
        self._request = None
        self._turn.release()


def _hand_on(owner: weakref.ref[ReasonerProcess], message: Message) -> None:
    """Pass a message to the clip it belongs to; messages about earlier clips are discarded."""
    process = owner()
    request = process._request if process is not None else None
    if request is not None and getattr(message, "job", None) == request.number:
        request.take(message)


def _close(children: list[Child]) -> None:
    while children:
        children.pop().close()
