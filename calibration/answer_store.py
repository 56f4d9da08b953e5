"""Judged answers, one JSON file per clip, kept during a calibration, so that a stopped one resumes after them."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edge_sdk import __version__
from edge_sdk.bundle import Bundle
from edge_sdk.calibration.answer_fits import Pair
from edge_sdk.clips import LabelledClip, SceneTruth
from edge_sdk.files import sha256_of, write_bytes
from edge_sdk.runtime import SessionOptions

# (task, judged answer), in the order in which they were given.
Rows = list[tuple[str, Pair]]
_LETTERS = 24


class AnswerStore:
    """Answers of `bundle` in one runtime, never mixed with those of another bundle, runtime or version."""

    def __init__(self, work: Path, bundle: Bundle, runtime: str, options: SessionOptions) -> None:
        how = [runtime, options.device, options.float_products]
        self._work, self.folder = work, work / f"answers-{_digest([bundle.sha256, *how, __version__])}"

    def rows(self, clip: LabelledClip, truth: SceneTruth, ask: Callable[[], Rows]) -> Rows:
        """The answers about `clip`, from an earlier run or by `ask`; an incomplete file is ignored."""
        path = self.folder / f"{_digest([sha256_of(clip.path), clip.record, truth])}.json"
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            return msgspec.json.decode(path.read_bytes(), type=Rows)
        found = ask()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, msgspec.json.encode(found))
        return found

    def clear(self) -> None:
        """Remove the answers, and the work folder if nothing else is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._work.rmdir()


# Any: whatever msgspec writes.
def _digest(told: list[Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:_LETTERS]
