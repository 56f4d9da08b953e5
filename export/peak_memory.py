"""The peak of this process's own memory, which an export promises to bound.

Sampled as RssAnon + RssShmem, because the kernel's own peak (VmHWM) also counts pages of mapped files, and a
checkpoint is mapped whole.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from types import TracebackType

_STATUS = Path("/proc/self/status")
_OWN = re.compile(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", re.MULTILINE)
PERIOD_S = 0.05


class PeakMemory:
    """Sample the process's memory in a background thread while the context is open."""

    def __init__(self) -> None:
        self._peak = self._sample()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak memory", daemon=True)

    @property
    def mb(self) -> float | None:
        """The peak so far, 10^6 bytes; None where the system does not report it."""
        return self._peak / 1e6 if self._peak else None

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(PERIOD_S):
            self._peak = max(self._peak, self._sample())

    @staticmethod
    def _sample() -> int:
        if not _STATUS.is_file():
            return 0
        return 1024 * sum(map(int, _OWN.findall(_STATUS.read_text())))
