"""The whole course of a mini: vocabulary, tower, language, two adapters. Each stage goes on from its checkpoint.

A stage's file is named by all that it depends on, so that a changed recipe begins anew where it changed and no earlier.
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
from numpy.typing import NDArray

from edge_sdk.export.mini.examples import Writer, collate
from edge_sdk.export.mini.material import Material
from edge_sdk.export.mini.model import Tower, make_model
from edge_sdk.export.mini.questions import draw_questions, draw_sayings, sentences, vocabulary_texts
from edge_sdk.export.mini.recipe import Recipe, Tuning
from edge_sdk.export.mini.seeing import TowerLearner, draw_frames
from edge_sdk.export.mini.speaking import Features, SpeakingLearner, with_tokens
from edge_sdk.export.mini.training import Batch, Record, Report, processes, run_stage
from edge_sdk.export.mini.tuning import draw_pairs, trainable, wrap
from edge_sdk.export.mini.vocabulary import train_vocabulary, write_vocabulary
from edge_sdk.export.mini.windows import draw_shot, whole
from edge_sdk.export.tokenizer import FINISHED
from edge_sdk.reasoning.grid import find_profile
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import TASKS, AdapterKind

# Any: a transformers model, here and below.
Model = Any


class Course:
    """One recipe on one set of clips, in the folder `work`; `clips` share one cache of pictures."""

    def __init__(self, recipe: Recipe, clips: Sequence[Material], work: Path, report: Report) -> None:
        self.recipe, self._clips, self._work, self._report = recipe, clips, work, report
        self.profile = find_profile(recipe.profile)
        self.tower = Tower(recipe.sizes, self.profile)
        self.records: dict[str, Record] = {}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary, trained on every text that this package can say of a scene."""
        if not self.vocabulary.is_file():
            write_vocabulary(train_vocabulary(_texts(), self.recipe.sizes.vocabulary), self.vocabulary.parent)
        return Tokenizer.open(self.vocabulary)

    @property
    def vocabulary(self) -> Path:
        """The file of `tokenizer`."""
        return self._work / f"vocabulary-{self.recipe.sizes.vocabulary}" / FINISHED

    @cached_property
    def writer(self) -> Writer:
        """What makes sequences."""
        return Writer(self.tokenizer, self.tower.grid)

    @cached_property
    def seeing(self) -> Model:
        """The model whose tower has been trained, the rest fresh."""
        recipe = self.recipe
        torch.manual_seed(recipe.seed)
        model = make_model(recipe.sizes, self.tokenizer.control)
        learner = TowerLearner(model, self.tower, recipe.sizes.hidden)

        def draw(step: int, numbers: Sequence[int]) -> Batch:
            return draw_frames(self._clips, self.tower, recipe.seed, step, numbers)

        path = self._path("tower", recipe.tower)
        self._run("tower", learner, recipe.tower, draw, path)
        return model

    @cached_property
    def base(self) -> Model:
        """The pre-trained model."""
        recipe, language = self.recipe, self.recipe.language
        model = self.seeing
        model.requires_grad_(True)
        model.model.vision_model.requires_grad_(language.tower)
        learner = SpeakingLearner(
            model, self.tower, recipe.sizes.hidden, self.tokenizer.control.image, language.auxiliary
        )
        features = None if language.tower else self._features()

        def draw(stage: int, questions: int, sayings: int, step: int, numbers: Sequence[int]) -> Batch:
            examples = []
            for number in numbers:
                random = np.random.default_rng([recipe.seed, stage, step, number])
                clip = self._clips[int(random.integers(len(self._clips)))]
                shot = draw_shot(clip, self.profile, recipe.windows, random)
                pairs = draw_questions(clip, shot, questions, random) + draw_sayings(sayings, random)
                examples.append(self.writer.example(clip, shot, pairs))
            batch = collate(examples)
            return with_tokens(batch, features) if features else {**batch, "patches": self._patches(batch)}

        spoken, words = self._path("language", recipe.tower, language), self._path("words", recipe.tower, language)
        self._run("language", learner, language.stage, partial(draw, 2, language.questions, 0), spoken)
        half = (language.questions + 1) // 2
        self._run("words", learner, language.words, partial(draw, 4, half, language.sayings), words)
        return model

    def adapter(self, kind: AdapterKind) -> Model:
        """peft's model of one adapter over the base."""
        recipe = self.recipe
        tuning: Tuning = recipe.linguistic if kind == "linguistic" else recipe.perception
        base = self.base
        torch.manual_seed(recipe.seed)
        tuned = wrap(base, tuning)
        learner = SpeakingLearner(tuned, self.tower, recipe.sizes.hidden, self.tokenizer.control.image)
        clips, features = trainable(kind, self._clips), self._features()

        def draw(step: int, numbers: Sequence[int]) -> Batch:
            examples = []
            for number in numbers:
                random = np.random.default_rng([recipe.seed, 3, step, number])
                clip = clips[int(random.integers(len(clips)))]
                shot = draw_shot(clip, self.profile, recipe.windows, random)
                pairs = draw_pairs(kind, clip, shot, tuning.questions, random)
                if not pairs:
                    shot = whole(clip, self.profile)
                    pairs = draw_pairs(kind, clip, shot, tuning.questions, random)
                examples.append(self.writer.example(clip, shot, pairs))
            return with_tokens(collate(examples), features)

        self._run(kind, learner, tuning.stage, draw, self._path(kind, recipe.tower, recipe.language, tuning))
        return tuned.eval()

    def features(self, cache: NDArray[np.uint8], path: Path) -> Features:
        """Tokens of the tower as it is now, for the pictures of `cache`, kept in the file `path`."""
        return Features(self.seeing.model.vision_model, self.tower, cache, self.recipe.sizes.hidden, path)

    def _features(self) -> Features:
        recipe = self.recipe
        path = self._path("features", recipe.tower, *([recipe.language] if recipe.language.tower else []))
        among = processes()
        # Each process keeps its own: which pictures it meets is its own too.
        suffix = f".{among.process_index}.f16" if among.num_processes > 1 else ".f16"
        return self.features(self._clips[0].pictures.cache, path.with_suffix(suffix))

    def _patches(self, batch: Batch) -> torch.Tensor:
        return torch.from_numpy(self._clips[0].pictures.cache[batch["pictures"].numpy()])

    def _run(self, name: str, learner: torch.nn.Module, stage: Any, draw: Any, path: Path) -> None:
        recipe = self.recipe

        def report(done: int, total: int, note: str) -> None:
            self._report(done, total, f"{name} {note}")

        self.records[name] = run_stage(learner, stage, draw, path, recipe.seed, recipe.precision, report)

    def _path(self, name: str, *parts: msgspec.Struct) -> Path:
        """The checkpoint of a stage, named by what it depends on."""
        recipe = self.recipe
        clips = [(clip.record.name, clip.pictures.first) for clip in self._clips]
        said = msgspec.json.encode([recipe.seed, recipe.profile, recipe.sizes, recipe.windows, clips, parts])
        return self._work / f"{name}-{hashlib.sha256(said).hexdigest()[:12]}.pt"


def _texts() -> Iterator[str]:
    """What the model will read and say, stamps often enough to become tokens of their own."""
    for task in TASKS:
        yield task.prompt
        yield task.negative or "6.0 - 7.0 seconds"
    yield from vocabulary_texts()
    yield from ["Time 0.2s:", ",Time 0.2s:"] * 50
    yield from sentences()
