"""The work of the reasoner's process on a clip: the reasoner itself, and its answers in the form that events carry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_text import read_manifest
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.events import Answer
from edge_sdk.explaining.limits import limit_memory
from edge_sdk.explaining.messages import Ask, Begin, Open, Piece, ReasoningReport, Reply
from edge_sdk.explaining.settings import language_of
from edge_sdk.reasoning import answer as spoken
from edge_sdk.reasoning.clip import Clip
from edge_sdk.reasoning.consistency import compared
from edge_sdk.reasoning.reasoner import Reasoner
from edge_sdk.reasoning.sighting import sighting_of
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import SessionOptions

Seconds = float | tuple[float, float] | None


class Answering:
    """An opened reasoner and at most one clip. `on_chunk` is called after each chunk of work and may raise."""

    def __init__(self, opening: Open, on_chunk: Callable[[], None]) -> None:
        """Open the reasoner. Raises as `Reasoner`, and `BundleError` if the bundle is not what the parent opened."""
        # Before the memory limit is set, because under it a library that cannot be mapped gives an obscure error.
        open_runtime(opening.runtime)
        left_mb = limit_memory(opening.budget_mb)
        bundle = _opened(opening)
        engines = Path(opening.engines) if opening.engines is not None else None
        options = SessionOptions(threads=opening.threads, device=opening.device, engines=engines)
        self._prompts = _hashes(bundle)
        try:
            self._reasoner = Reasoner(
                bundle,
                opening.runtime,
                options,
                profile=opening.profile,
                max_frames=opening.max_frames,
                max_memory_mb=left_mb,
            )
        except ConfigError as error:
            if opening.budget_mb is None or left_mb is None:
                raise
            taken_mb = opening.budget_mb - left_mb
            raise ConfigError(
                f"libraries use {ceil(taken_mb)} of {opening.budget_mb:.1f} MB; for the rest: {error}"
            ) from error
        self._model = f"{bundle.manifest.name} {bundle.manifest.version}"
        self._on_chunk = on_chunk
        self._clip: Clip | None = None

    @property
    def memory_mb(self) -> float:
        """The memory that the reasoner holds, in 10^6 bytes."""
        return self._reasoner.memory_mb

    def begin(self, message: Begin) -> None:
        """Begin a clip in place of the last one."""
        self.end()
        self._clip = self._reasoner.begin(message.profile, source=message.source, on_chunk=self._on_chunk)

    def push(self, pixels: NDArray[np.uint8], time_s: float) -> None:
        """Take in one picture."""
        self._present().push(pixels, time_s)

    def ask(self, message: Ask) -> Iterator[Piece | Reply]:
        """Yield the answers to `message.tasks`, with times on the source's clock.

        An answer is yielded again if a later answer contradicts it.
        """
        answers: dict[str, spoken.Answer] = {}
        sighting = sighting_of(message.events, message.evidence, offset_s=message.zero_s)
        for said in self._present().ask(message.tasks, deadline_s=message.deadline_s, sighting=sighting):
            if not isinstance(said, spoken.Answer):
                yield Piece(task=said.task, text=said.text)
                continue
            before, answers = answers, compared({**answers, said.task: said}, message.events, offset_s=message.zero_s)
            for task, answer in answers.items():
                # A change from unknown to agreement need not be reported.
                if task == said.task or bool(answer.contradiction) != bool(before[task].contradiction):
                    yield Reply(task=task, answer=self._answer(answer, message))

    def report(self, resident_mb: float) -> ReasoningReport:
        """Return the costs of the clip so far."""
        clip = self._present()
        times = clip.timings
        ms = {
            "vision": times.vision_ms,
            "prefill": times.prefill_ms,
            "after_last_frame": times.after_last_frame_ms,
            "decode": times.decode_ms,
        }
        return ReasoningReport(
            ms={name: round(value, 3) for name, value in ms.items()},
            frames=clip.frames,
            grid=clip.grid,
            kept_ratio=round(clip.kept_ratio, 4),
            steps=times.steps,
            weight_reads=times.weight_reads,
            slots=max(graph.slots for graph in self._reasoner.fit.decoders.values()),
            rounds=times.rounds,
            memory_mb=round(self.memory_mb, 3),
            resident_mb=round(resident_mb, 3),
        )

    def end(self) -> None:
        """Close the clip, if there is one."""
        clip, self._clip = self._clip, None
        if clip is not None:
            clip.close()

    def _present(self) -> Clip:
        if self._clip is None:
            raise ConfigError("no clip was begun; begin one first")
        return self._clip

    def _answer(self, said: spoken.Answer, message: Ask) -> Answer:
        timed = said.form in ("time", "interval")
        value = said.value if isinstance(said.value, bool) else _moved(said.value, message.zero_s)
        return Answer(
            form=said.form,
            value=value,
            text=said.text,
            probability=said.probability if said.probability is None else round(said.probability, 6),
            calibrated=said.calibrated,
            lo=_moved(said.lo, message.zero_s) if timed else said.lo,
            hi=_moved(said.hi, message.zero_s) if timed else said.hi,
            tokens=said.tokens,
            grid=said.grid,
            abstain=said.abstain,
            contradiction=said.contradiction,
            with_student=said.with_student,
            model=self._model,
            prompt_sha256=self._prompts[said.task],
        )


def _moved(seconds: Seconds, zero_s: float) -> Seconds:
    """Convert seconds of the clip to seconds of the source, rounded to the millisecond."""
    if seconds is None:
        return None
    if isinstance(seconds, tuple):
        start_s, end_s = (_since_zero(each, zero_s) for each in seconds)
        return start_s, end_s
    return _since_zero(seconds, zero_s)


def _since_zero(seconds: float, zero_s: float) -> float:
    # Answers are in tenths, so one may lie just before the first frame, which is before the source's clock starts.
    return max(0.0, round(seconds - zero_s, 3))


def _opened(opening: Open) -> Bundle:
    """Open the bundle whose files the parent has checked.

    Only the manifest is checked again, because hashing gigabytes takes seconds. A pinned bundle is checked again as a
    whole, because this process may start long after its parent and a file may have been replaced since.
    """
    folder = Path(opening.bundle)
    manifest, sha256 = read_manifest(folder)
    if sha256 != opening.sha256:
        raise BundleError(f"{folder}: the manifest of the bundle has changed since it was opened; open it again")
    bundle = Bundle(folder=folder, manifest=manifest, sha256=sha256, pinned=opening.pinned)
    if bundle.pinned:
        bundle.check_files()
    return bundle


def _hashes(bundle: Bundle) -> dict[str, str]:
    """Return the SHA-256 of each task's question in UTF-8. Raises `BundleError`."""
    path = bundle.path(language_of(bundle).prompts)
    try:
        texts = {task: str(entry["text"]) for task, entry in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise BundleError(f"{path}: expected the text of every question, found {error!r}; export again") from error
    return {task: hashlib.sha256(text.encode()).hexdigest() for task, text in texts.items()}
