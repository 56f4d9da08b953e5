"""Drives a reader as a decoder would: a tree of tokens, and logits after each of its leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import decoders, models, pre_tokenizers, trainers

from edge_sdk.reasoning.answer import Answer, AnswerContext, AnswerReader, Growth
from edge_sdk.reasoning.text import Tokenizer

Path = tuple[int, ...]
Model = Callable[[Path], NDArray[np.float32]]
CONTROL = ("<|im_start|>", "<|im_end|>", "<image>")
CORPUS = (
    "Yes No yes no",
    "car hits a truck. no collision. No accident, no cause.",
    *(f"{a}.{b} - {a + 1}.{9 - b} seconds" for a in range(12) for b in range(10)),
    *(f"{a}.{b} seconds" for a in range(12) for b in range(10)),
)


@dataclass
class Run:
    """What a reader asked for: its growths read by read, the text it streamed, and its answer."""

    steps: list[Sequence[Growth]] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    answer: Answer = field(default=None)  # type: ignore[assignment]

    @property
    def taken(self) -> int:
        return sum(len(growth.tokens) for step in self.steps for growth in step)


def drive(reader: AnswerReader, model: Model, *, most: int = 2000) -> Run:
    """Read one answer of `model`, which gives the logits after the question and a path of tokens."""
    run, fresh = Run(), [0]
    leaves: dict[int, Path] = {0: ()}
    while fresh:
        growths = reader.read({leaf: model(leaves[leaf]) for leaf in fresh})
        run.steps.append(growths)
        run.pieces.append(reader.pieces())
        fresh = list(range(len(leaves), len(leaves) + len(growths)))
        for leaf, growth in zip(fresh, growths, strict=True):
            assert growth.tokens
            leaves[leaf] = leaves[growth.leaf] + growth.tokens
        assert len(run.steps) < most, "the answer never ends"
    run.answer = reader.answer()
    return run


def train_bpe(size: int, *, seed: int = 0, split: str = "gpt2", without: str = "") -> Tokenizer:
    """A small byte-level vocabulary trained on answers; `split`: "gpt2" (numbers in runs), "digits", or "none".

    Characters of `without` are not in it.
    """
    rng = np.random.default_rng(seed)
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = {
        "gpt2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
        "digits": lambda: pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        ),
        "none": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    }[split]()
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(CONTROL),
        initial_alphabet=[each for each in pre_tokenizers.ByteLevel.alphabet() if each not in without],
        show_progress=False,
    )
    backend.train_from_iterator(
        [str(line) for line in rng.permutation(CORPUS) if not set(line) & set(without)], trainer
    )
    return Tokenizer(backend)


def random_model(size: int, *, seed: int = 0, spread: float = 3.0) -> Model:
    """Logits that depend on the path alone."""
    known: dict[Path, NDArray[np.float32]] = {}

    def logits(path: Path) -> NDArray[np.float32]:
        if path not in known:
            rng = np.random.default_rng([seed, *path])
            known[path] = rng.normal(scale=spread, size=size).astype(np.float32)
        return known[path]

    return logits


def context(first_s: float = 0.0, last_s: float = 4.9, end_token: int = 1, **more: Any) -> AnswerContext:
    return AnswerContext(first_s=first_s, last_s=last_s, end_tokens=(end_token,), **more)
