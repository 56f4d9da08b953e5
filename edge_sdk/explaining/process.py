"""The reasoner in a process of its own: clips go in, answers come out, and its death costs one request.

One clip is worked on at a time, for a prefix takes the memory that there is; a second request waits, or is refused with
what is running. The process is started when it is first needed, and again after it has died. Pictures are pushed a few
ahead and no more, so that what waits is bounded and a request that is dropped ends at the next chunk of work.
"""

from __future__ import annotations

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
from edge_sdk.forks import only_here


class ReasonerClosedError(ConfigError):
    """A reasoner is used after it was closed."""


@contextmanager
def while_open() -> Iterator[None]:
    """Around a question that began when its reasoner was open: where that is closed since, it is `Cancelled`."""
    try:
        yield
    except ReasonerClosedError as error:
        raise Cancelled("this reasoner was closed while a question was on its way") from error


class ReasonerProcess:
    """The reasoner of one bundle. Use as a context manager, or call `close`; any thread may use it."""

    def __init__(
        self, bundle: Bundle, settings: ReasonerSettings | None = None, *, max_frames: int | None = None
    ) -> None:
        """Nothing is started yet. Caches are chosen for clips of `max_frames`, None for all that the profile has; of a
        longer clip they hold as much as they can. Raises `BundleError` for a bundle that has no language part, and
        `UnknownNameError` for a profile that it has not.
        """
        self.settings = settings or ReasonerSettings()
        self.bundle, self.language = bundle, language_of(bundle)
        self.profile = profile_of(self.language, self.settings)
        # Always a number: a cache that would not hold the clip is refused at once, and not when most of it was shown.
        self._max_frames = self.language.profiles[self.profile].frames if max_frames is None else max_frames
        self._children: list[Child] = []
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._request: ClipRequest | None = None
        self._count = 0
        self._finish = weakref.finalize(self, only_here(partial(_close, self._children)))

    @property
    def pid(self) -> int | None:
        """Id of the process; None while there is none."""
        with self._lock:
            return self._children[0].pid if self._children and not self._children[0].ended else None

    def start(self) -> None:
        """Start the process, unless it runs; it opens the bundle while the caller goes on."""
        self._living()

    def begin(
        self,
        *,
        profile: str | None = None,
        source: tuple[int, int] | None = None,
        wait_s: float = 0.0,
        until_s: float | None = None,
    ) -> ClipRequest:
        """A new clip, of pictures of `source` (width, height) where that is known; close it when it is done with.

        `profile` is the reasoner's own unless given. Raises `RuntimeFailure` when another clip is worked on for longer
        than `wait_s`, or the bundle is not open at `until_s` on the monotonic clock, which goes on all the same; and
        what opening the bundle raises: `ConfigError` for a budget that is too small,
        `MissingDependencyError`, `BundleError`, ..., and `Cancelled` when it is closed meanwhile. One that was closed
        before is a `ConfigError`, but see `while_open`.
        """
        # Before its turn: who gives up while the bundle opens holds up nobody.
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
        """End the process; a clip that is being worked on fails."""
        with self._lock:
            self._finish()

    def __enter__(self) -> ReasonerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _living(self) -> Child:
        """The process, started anew when it has died."""
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
    """Give a message to the clip that it is about; what is said of an earlier one is lost."""
    process = owner()
    request = process._request if process is not None else None
    if request is not None and getattr(message, "job", None) == request.number:
        request.take(message)


def _close(children: list[Child]) -> None:
    while children:
        children.pop().close()
