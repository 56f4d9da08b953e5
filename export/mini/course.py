"""The whole course of a mini: vocabulary, tower, language in phases, two adapters. Each resumes from its checkpoint.

A stage's file is named by everything that the stage depends on, so that a changed recipe starts anew at the first stage
that it changes, and no earlier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from edge_sdk.bundle import Bundle
from edge_sdk.export.graphs.vision import MERGE
from edge_sdk.export.mini.examples import Writer, collate
from edge_sdk.export.mini.from_bundle import fill, language_component
from edge_sdk.export.mini.material import Material, digest
from edge_sdk.export.mini.model import Tower, make_model
from edge_sdk.export.mini.questions import draw_questions, draw_sayings, sentences, vocabulary_texts
from edge_sdk.export.mini.recipe import Language, Phase, Recipe, Tuning, Windows
from edge_sdk.export.mini.seeing import TowerLearner, draw_frames
from edge_sdk.export.mini.speaking import SpeakingLearner
from edge_sdk.export.mini.starting import aim_decoder, aim_tower
from edge_sdk.export.mini.training import Batch, Record, Report, run_stage
from edge_sdk.export.mini.tuning import draw_pairs, trainable, wrap
from edge_sdk.export.mini.views import closest, draw_view, seen_through
from edge_sdk.export.mini.vocabulary import train_vocabulary, write_vocabulary
from edge_sdk.export.mini.windows import Shot, draw_shot, whole
from edge_sdk.export.tokenizer import FINISHED
from edge_sdk.files import write_bytes
from edge_sdk.reasoning.grid import find_profile
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import TASKS, AdapterKind

# Any: a transformers model, here and below.
Model = Any


class Course:
    """One recipe on one set of clips, in the folder `work`; `clips` share one cache of pictures.

    With `start`, a bundle in full weights, training continues from its model, with its vocabulary.
    """

    def __init__(
        self, recipe: Recipe, clips: Sequence[Material], work: Path, report: Report, start: Bundle | None = None
    ) -> None:
        self.recipe, self._clips, self._work, self._report, self._start = recipe, clips, work, report, start
        self.profile = find_profile(recipe.profile)
        self.tower = Tower(recipe.sizes, self.profile)
        self.records: dict[str, Record] = {}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary: that of `start`, or one trained on every text that this package can say about a scene."""
        if not self.vocabulary.is_file() and self._start:
            write_bytes(self.vocabulary, self._start.path(language_component(self._start).tokenizer).read_bytes())
        elif not self.vocabulary.is_file():
            write_vocabulary(train_vocabulary(_texts(), self.recipe.sizes.vocabulary), self.vocabulary.parent)
        return Tokenizer.open(self.vocabulary)

    @property
    def vocabulary(self) -> Path:
        """The file of `tokenizer`."""
        whose = f"-{self._start.sha256[:12]}" if self._start else ""
        return self._work / f"vocabulary-{self.recipe.sizes.vocabulary}{whose}" / FINISHED

    @cached_property
    def clips_sha256(self) -> str:
        """The digest of the clips, see `material.digest`."""
        return digest(self._clips)

    @property
    def checkpoints(self) -> Path:
        """The folder for the results of the whole course; a change to any stage gives another folder."""
        recipe = self.recipe
        key = self._key(recipe.tower, recipe.language, recipe.linguistic, recipe.perception)
        return self._work / f"checkpoints-{key}"

    @cached_property
    def writer(self) -> Writer:
        """The writer of training sequences."""
        return Writer(self.tokenizer, self.tower)

    @cached_property
    def seeing(self) -> Model:
        """The model after training its tower, if the recipe does so; other weights are fresh or those of `start`."""
        recipe = self.recipe
        torch.manual_seed(recipe.seed)
        model = make_model(recipe.sizes, self.tokenizer.control)
        if self._start:
            fill(model, self._start)
        else:
            self._aim(model)
        if not recipe.tower:
            return model
        learner = TowerLearner(model, self.tower, recipe.sizes.hidden)

        def draw(step: int, numbers: Sequence[int]) -> Batch:
            return draw_frames(self._clips, self.tower, recipe.views, recipe.seed, step, numbers)

        path = self._path("tower", recipe.tower)
        self._run("tower", learner, recipe.tower, draw, path)
        return model

    def _aim(self, model: Model) -> None:
        sizes, decoder = self.recipe.sizes, model.model.language_model
        aim_tower(model.model.vision_model, sizes.heads)
        aim_decoder(decoder, sizes.kv_heads, self.writer.frame_tokens, self.tower.grid.columns // MERGE)

    @cached_property
    def base(self) -> Model:
        """The pre-trained model."""
        language, model = self.recipe.language, self.seeing
        if not language:
            return model.eval()
        model.requires_grad_(True)
        image, hidden = self.tokenizer.control.image, self.recipe.sizes.hidden
        learner = SpeakingLearner(model, self.tower, hidden, image, language.auxiliary)
        for number, phase in enumerate(language.phases):
            done = Language(phases=language.phases[: number + 1], auxiliary=language.auxiliary)
            name = f"language-{number + 1}"
            path = self._path(name, self.recipe.tower, done)
            self._run(name, learner, phase.stage, partial(self._draw_phase, phase, number), path)
        return model

    def _draw_phase(self, phase: Phase, number: int, step: int, numbers: Sequence[int]) -> Batch:
        examples = []
        for each in numbers:
            random = np.random.default_rng([self.recipe.seed, 2, number, step, each])
            clip, shot = self._draw_shot(self._clips, phase.windows, random)
            pairs = draw_questions(clip, shot, phase.questions, random) + draw_sayings(phase.sayings, random)
            examples.append(self.writer.example(clip, shot, pairs))
        return collate(examples)

    def _draw_shot(
        self, clips: Sequence[Material], windows: Windows, random: np.random.Generator
    ) -> tuple[Material, Shot]:
        """Draw a window of a random clip, seen through a random view.

        Half of the views are mirrored. "Left turn." is the only answer that names a side; no scene shows a right turn,
        so a mirrored left turn cannot be confused with one.
        """
        clip = clips[int(random.integers(len(clips)))]
        shot = draw_shot(clip, self.profile, windows, random)
        return seen_through(clip, draw_view(clip, self.recipe.views, closest(clip), random)), shot

    def adapter(self, kind: AdapterKind) -> Model:
        """Train one adapter over the base; returns peft's model of it."""
        recipe = self.recipe
        tuning: Tuning = recipe.linguistic if kind == "linguistic" else recipe.perception
        base = self.base
        torch.manual_seed(recipe.seed)
        tuned = wrap(base, tuning)
        image, frozen = self.tokenizer.control.image, base.model.vision_model
        learner = SpeakingLearner(tuned, self.tower, recipe.sizes.hidden, image, frozen=frozen)
        clips = trainable(kind, self._clips)

        def draw(step: int, numbers: Sequence[int]) -> Batch:
            examples = []
            for number in numbers:
                random = np.random.default_rng([recipe.seed, 3, step, number])
                clip, shot = self._draw_shot(clips, recipe.windows, random)
                pairs = draw_pairs(kind, clip, shot, tuning.questions, random)
                if not pairs:
                    shot = whole(clip, self.profile)
                    pairs = draw_pairs(kind, clip, shot, tuning.questions, random)
                if tuning.driving:
                    pairs = pairs + draw_questions(clip, shot, tuning.driving, random)
                examples.append(self.writer.example(clip, shot, pairs))
            return collate(examples)

        self._run(kind, learner, tuning.stage, draw, self._path(kind, recipe.tower, recipe.language, tuning))
        return tuned.eval()

    def _run(self, name: str, learner: torch.nn.Module, stage: Any, draw: Any, path: Path) -> None:
        recipe = self.recipe

        def report(done: int, total: int, note: str) -> None:
            self._report(done, total, f"{name} {note}")

        self.records[name] = run_stage(learner, stage, draw, path, recipe.seed, recipe.precision, report)

    def _path(self, name: str, *parts: msgspec.Struct | None) -> Path:
        """The path of a stage's checkpoint."""
        return self._work / f"{name}-{self._key(*parts)}.pt"

    def _key(self, *parts: msgspec.Struct | None) -> str:
        """The digest of everything that stages described by these `parts` of the recipe depend on."""
        recipe = self.recipe
        same = [recipe.seed, recipe.profile, recipe.precision, recipe.sizes, recipe.windows, recipe.views]
        start = [self._start.sha256] if self._start else []
        return hashlib.sha256(msgspec.json.encode([same, self.clips_sha256, parts, *start])).hexdigest()[:12]


def _texts() -> Iterator[str]:
    """What the model will read and say; time stamps repeat often enough to become tokens of their own."""
    for task in TASKS:
        yield task.prompt
        yield task.negative or "6.0 - 7.0 seconds"
    yield from vocabulary_texts()
    yield from ["Time 0.2s:", ",Time 0.2s:"] * 50
    yield from sentences()
