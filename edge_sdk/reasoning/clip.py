"""One clip as it arrives, and the questions asked about it.

A frame is encoded once, whatever the number of adapters, and goes to each adapter's prefix immediately. So after the
last frame only the questions and the tokens that did not fill a call remain to be prefilled. A clip may be asked,
continue with more frames, and be asked again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple
from weakref import WeakSet

import msgspec
import numpy as np

from edge_sdk.bundle.manifest_language import Language, VisionProfile
from edge_sdk.errors import ConfigError, UnknownNameError
from edge_sdk.reasoning.answer import Answer, AnswerContext, AnswerReader, Verdict
from edge_sdk.reasoning.asking import Branch, Conversation, Spoken
from edge_sdk.reasoning.chain import merge_rows
from edge_sdk.reasoning.embedding import EmbeddingTable
from edge_sdk.reasoning.forms import reader_for
from edge_sdk.reasoning.forms.distribution import TimeBelief
from edge_sdk.reasoning.forms.time_reader import TimeReader
from edge_sdk.reasoning.patches import Pixels
from edge_sdk.reasoning.prompt import Prompt, kept_frame
from edge_sdk.reasoning.sighting import Sighting
from edge_sdk.reasoning.text import Ids, Tokenizer
from edge_sdk.reasoning.times import ReasoningTimes, Stopwatch
from edge_sdk.reasoning.tuned import TunedModel
from edge_sdk.reasoning.vision_input import VisionInput
from edge_sdk.runtime import Array, Session
from edge_sdk.tasks import find_task

ROOMS = {"yes_no": 8, "time": 64, "interval": 64}
"""Maximum tokens by answer form: two words spelled in bytes, and a time with all branches followed beside it."""


@dataclass(frozen=True, eq=False)
class Speaking:
    """The opened parts of a bundle that clips use. `max_tokens` limits each task's answer when it is read as text."""

    max_tokens: Mapping[str, int]
    language: Language
    tokenizer: Tokenizer
    prompt: Prompt
    table: EmbeddingTable
    questions: dict[str, Ids]
    models: tuple[TunedModel, ...]


class _Seen(NamedTuple):
    """What answers take into account besides the model's own output."""

    sighting: Sighting | None
    verdict: Verdict


def answer_room(task: str, max_tokens: int, *, free: bool) -> int:
    """Return how many slots to reserve for the answer to `task`; `max_tokens` is the limit for text."""
    return max_tokens if free else ROOMS.get(find_task(task).form, max_tokens)


def _followed(tasks: Sequence[str], step: int) -> int:
    """Return how many tokens each time or interval in `tasks` may request in a step of `step`; each text takes one."""
    forms = [find_task(task).form for task in tasks]
    times = forms.count("time") + forms.count("interval")
    return max(2, (step - forms.count("text")) // max(1, times))


class Clip:
    """A clip of one profile, created by `Reasoner.begin`. Not for use by two threads at once."""

    def __init__(
        self,
        parts: Speaking,
        vision: Session,
        profile: VisionProfile,
        *,
        source: tuple[int, int] | None = None,
        on_chunk: Callable[[], None] | None = None,
        on_close: Callable[[], None] | None = None,
        on_tokens: Callable[[float, Array], None] | None = None,
        threads: int = 1,
    ) -> None:
        """Begin an empty clip. `source` is the width and height of the pictures, if known; others are then refused.

        `on_chunk` is called after every run of a graph, and may raise to stop the work. `on_tokens` gets each frame's
        time and its tokens `[tokens, width]` from the vision tower, in row order of the picture.
        """
        self._parts, self._vision, self._profile, self._source = parts, vision, profile, source
        self._on_chunk, self._on_close, self._on_tokens = on_chunk, on_close, on_tokens
        self._readers: dict[str, AnswerReader] = {}
        self._input = VisionInput.of(parts.language, profile, threads=threads)
        self._keeper = self._input.keeper(parts.language.compression)
        self._watch, self._busy, self._closed = Stopwatch(), False, False
        # Iterators of answers that callers are reading or may still read.
        self._asked: WeakSet[Spoken] = WeakSet()
        for model in parts.models:
            model.prefix.on_call = on_chunk
        self.reset()

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def grid(self) -> str:
        """The size of the pictures as the model sees them, in pixels, such as "364x196"."""
        return f"{self._profile.width}x{self._profile.height}"

    @property
    def frames(self) -> int:
        """The number of frames in the clip."""
        return len(self._times)

    @property
    def kept_ratio(self) -> float:
        """The share of the pictures' tokens that compression kept."""
        return self._keeper.kept_ratio

    @property
    def timings(self) -> ReasoningTimes:
        """The time spent on each part so far; times after the last frame are those of the last `ask`."""
        watch = self._watch
        return ReasoningTimes(
            vision_ms=watch.ms("vision"),
            prefill_ms=watch.ms("prefill"),
            decode_ms=watch.ms("decode"),
            first_answer_ms=watch.ms("last frame") + watch.ms("first answer"),
            questions_ms=watch.ms("last frame") + watch.ms("questions"),
            after_last_frame_ms=watch.ms("last frame") + watch.ms("asked"),
            steps=self._steps,
            rounds=self._asked_rounds,
            weight_reads=sum(model.prefix.calls for model in self._parts.models) - self._calls_before,
        )

    def push(self, pixels: Pixels, time_s: float) -> None:
        """Take in one RGB frame, uint8 `[height, width, 3]`, at `time_s`, in seconds on the video's clock.

        Raises `ConfigError` for one frame too many, a frame earlier than the last, a picture of another type or size,
        or one for which the caches have no room; the clip is then unchanged. Raises `RuntimeFailure` if a graph fails;
        the clip must then be `reset`. An exception from `on_chunk` stops the work but leaves the clip usable; `frames`
        says whether the frame was taken in.
        """
        with self._working():
            self._check_frame(pixels, time_s)
            self._watch.reset("last frame")
            with self._watch.running("last frame"):
                with self._watch.running("vision"):
                    self._take(pixels, time_s)
                with self._watch.running("prefill"):
                    for model in self._parts.models:
                        model.prefix.flush()

    def ask(
        self,
        tasks: Sequence[str] | None = None,
        *,
        free: bool = False,
        deadline_s: float | None = None,
        sighting: Sighting | None = None,
        verdict: Verdict | None = None,
    ) -> Spoken:
        """Return an iterator of answers to `tasks`, by default all tasks of the bundle, each as soon as it is complete.

        The answers are about the clip as it is when the first is read. Free text comes in pieces before its answer.
        `free` reads every answer as plain greedy text. `sighting` is what the student saw of the clip; it is used for
        the answers that the bundle's calibration joins with the student. Texts among these follow the joint verdict if
        recognition is asked too, or else the given `verdict`. After `deadline_s` seconds no further call is made, and
        unfinished answers are returned as they stand. Questions that do not fit into the caches together are asked one
        after the other.

        Raises `UnknownNameError` for a task that no adapter has, and `ConfigError` for a clip without frames, a clip
        that is already being asked, or too little room; the iterator raises them too if the clip has changed since. It
        raises `RuntimeFailure` if a graph fails or gives NaN; the clip must then be `reset`.
        """
        self._check_free()
        wanted = tuple(self._parts.questions) if tasks is None else tuple(tasks)
        self._rounds(wanted, free)  # only to raise errors early: the clip may change before answers are read
        until = math.inf if deadline_s is None else time.monotonic() + deadline_s
        spoken = self._speak(wanted, free, until, _Seen(sighting, verdict or Verdict()))
        self._asked.add(spoken)
        return spoken

    def belief(self, task: str) -> TimeBelief:
        """Return the model's distribution over the times of the answer to `task`, as far as it has been read.

        Raises `ConfigError` for a task that was not asked about this clip as a time or an interval.
        """
        reader = self._readers.get(task)
        if not isinstance(reader, TimeReader):
            raise ConfigError(f"this clip has no time or interval from {task!r} yet; ask this task first")
        return TimeBelief(reader.first_s, tuple(reader.distributions()))

    def reset(self) -> None:
        """Begin another clip of the same profile."""
        self._check_free()
        self._keeper.reset()
        self._watch.reset()
        self._times: list[float] = []
        self._readers.clear()
        self._steps = self._asked_rounds = 0
        self._calls_before = sum(model.prefix.calls for model in self._parts.models)
        for model in self._parts.models:
            model.prefix.reset()

    def close(self) -> None:
        """Return the caches to the reasoner for another clip; iterators of answers that are being read end."""
        if self._closed:
            return
        for spoken in tuple(self._asked):
            spoken.close()
        self._closed = True
        for model in self._parts.models:
            model.prefix.on_call = None
            model.prefix.reset()
        if self._on_close:
            self._on_close()

    def _take(self, pixels: Pixels, time_s: float) -> None:
        """Encode a frame and add its tokens to the waiting ones of every prefix, or of none if that fails."""
        parts, keeper = self._parts, copy(self._keeper)
        patches = self._input.from_rgb(pixels)
        tokens = self._vision.run({"patches": self._input.normalised(patches)[None]})["tokens"][0]
        if self._on_chunk:
            self._on_chunk()
        if self._on_tokens:
            self._on_tokens(time_s, tokens)
        keep = keeper.push(patches)
        ids = parts.prompt.frame(kept_frame(time_s, keep), first=not self._times)
        if not self._times:
            ids = np.concatenate([parts.prompt.header(), ids])
        rows = [self._rows(model, ids, tokens[keep]) for model in parts.models]
        marks = [model.prefix.mark() for model in parts.models]
        try:
            for model, embeds in zip(parts.models, rows, strict=True):
                model.prefix.take(embeds)
        except BaseException:
            for model, mark in zip(parts.models, marks, strict=True):
                model.prefix.rewind(mark)
            raise
        self._keeper = keeper
        self._times.append(time_s)

    def _rows(self, model: TunedModel, ids: Ids, tokens: Array) -> Array:
        images = model.projector.run({"tokens": tokens})["embeds"]
        return merge_rows(ids, images, self._parts.table, self._parts.language.image_token)

    def _rounds(self, tasks: Sequence[str], free: bool) -> list[list[tuple[TunedModel, list[str]]]]:
        """Group the tasks that are asked together: as many of an adapter's as fit, all adapters in parallel."""
        if not self._times:
            raise ConfigError("expected a clip with at least 1 frame to ask about, found none; push frames first")
        known = self._parts.questions
        for task in tasks:
            if task not in known:
                raise UnknownNameError("task of this bundle", task, list(known))
        if not tasks or len(set(tasks)) != len(tasks):
            raise ConfigError(f"expected 1 task or more, each once, found {', '.join(tasks) or 'none'}")
        packs = []
        for model in self._parts.models:
            # Yes/no tasks come first, because texts follow their verdict.
            mine = [task for task in tasks if task in model.tasks]
            own = sorted(mine, key=lambda task: find_task(task).form != "yes_no")
            packs.append([(model, pack) for pack in self._packed(model, own, free)])
        return [[each for each in together if each is not None] for together in zip_longest(*packs)]

    def _packed(self, model: TunedModel, tasks: Sequence[str], free: bool) -> list[list[str]]:
        packs, left = list[list[str]](), 0
        for task in tasks:
            needed = len(self._parts.questions[task]) + answer_room(task, self._parts.max_tokens[task], free=free)
            if needed > left or not packs:
                model.prefix.check_room(needed, behind_clip=True)
                packs.append([])
                left = model.prefix.slots - model.prefix.tokens - model.prefix.shape.slack
            packs[-1].append(task)
            left -= needed
        return packs

    def _speak(self, tasks: Sequence[str], free: bool, until: float, seen: _Seen) -> Spoken:
        watch, answered = self._watch, False
        watch.reset("first answer", "questions", "asked")
        with self._working():
            rounds = self._rounds(tasks, free)
            self._asked_rounds = len(rounds)
            for together in rounds:
                branches = [branch for model, tasks in together for branch in self._branches(model, tasks, free, seen)]
                talk = Conversation(branches, self._parts.table, lambda: time.monotonic() >= until, watch)
                spoken = talk.speak()
                try:
                    while True:
                        with watch.running("asked", *(() if answered else ("first answer",))):
                            said = next(spoken, None)
                        if said is None:
                            break
                        answered = answered or isinstance(said, Answer)
                        yield said
                finally:
                    spoken.close()
                    self._steps += talk.steps
                    for model, _ in together:
                        model.prefix.forget_branches()

    def _branches(self, model: TunedModel, tasks: Sequence[str], free: bool, seen: _Seen) -> list[Branch]:
        language, first, last = self._parts.language, self._times[0], self._times[-1]
        context = AnswerContext(
            first_s=float(np.round(first, 1)),
            last_s=float(np.round(last, 1)),
            period_s=1 / self._profile.rate_hz,
            end_tokens=language.end_tokens,
            calibration=model.calibration,
            sighting=seen.sighting,
            verdict=seen.verdict,
            grid=self.grid,
            width=_followed(tasks, model.prefix.shape.step),
        )
        return [self._branch(model, task, context, free) for task in tasks]

    def _branch(self, model: TunedModel, task: str, context: AnswerContext, free: bool) -> Branch:
        own = msgspec.structs.replace(context, max_tokens=self._parts.max_tokens[task])
        reader = reader_for(find_task(task), self._parts.tokenizer, own, free=free)
        self._readers[task] = reader
        return Branch(prefix=model.prefix, reader=reader, question=self._parts.questions[task], task=task)

    def _check_frame(self, pixels: Pixels, time_s: float) -> None:
        if self.frames >= self._profile.frames:
            raise ConfigError(
                f"expected at most {self._profile.frames} frames, the most of this profile, found one more; "
                "sample the clip, or open a profile of more frames"
            )
        if not math.isfinite(time_s) or (self._times and time_s < self._times[-1]):
            after = f" from {self._times[-1]} on" if self._times else ""
            raise ConfigError(f"expected the time of a frame in seconds{after}, found {time_s}")
        if self._source and pixels.shape[:2] != self._source[::-1]:
            found = "x".join(map(str, pixels.shape[1::-1]))
            raise ConfigError(f"expected pictures of {self._source[0]}x{self._source[1]}, found {found}")

    def _check_free(self) -> None:
        if self._closed:
            raise ConfigError("this clip is closed; begin another one")
        if self._busy:
            raise ConfigError("this clip is still answering; read its answers to the end, or close their iterator")

    @contextmanager
    def _working(self) -> Iterator[None]:
        self._check_free()
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
