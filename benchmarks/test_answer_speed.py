"""What reading an answer costs at the size of Qwen2.5's vocabulary, in the processor time of one thread.

Logits and decoding are not counted. Asserted is far above what a free core needs, since other work shares it.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import pytest
import tokenizers
from numpy.typing import NDArray
from tokenizers import decoders, models, pre_tokenizers

from edge_sdk.reasoning import AnswerContext, Tokenizer, reader_for
from edge_sdk.reasoning.forms.spelling import Spelling
from edge_sdk.tasks import find_task

VOCABULARY, TEXT_TOKENS = 152_064, 151_000
CONTROL = ("<|im_start|>", "<|im_end|>", "<image>")
TASKS = ("recognition", "cause", "pre_crash_time", "crash_interval")
MOST_MS, MOST_BUILD_S = 6.0, 3.0
ROUNDS = 5


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """All bytes, the two words, and filler: nearly as many as Qwen2.5 has, whose ids would have to be its own."""
    pieces = [*pre_tokenizers.ByteLevel.alphabet(), "Ye", "Yes", "No", *CONTROL]
    pieces += [f"filler{n}" for n in range(TEXT_TOKENS - len(pieces))]
    merges = [("Y", "e"), ("Ye", "s"), ("N", "o")]
    backend = tokenizers.Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(CONTROL))
    return Tokenizer(backend)


def _logits(tokenizer: Tokenizer) -> list[NDArray[np.float32]]:
    """Rows that like digits and what stands between them, so that many branches are worth following."""
    liked = tokenizer.encode("0123456789. -seconds")
    rows = np.random.default_rng(0).normal(size=(8, VOCABULARY)).astype(np.float32)
    rows[:, liked] += 10.0
    return list(rows)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("last_s", [9.5, 600.0])
def test_a_read_takes_milliseconds(tokenizer: Tokenizer, task: str, last_s: float) -> None:
    rows, spent = _logits(tokenizer), []
    context = AnswerContext(first_s=0.0, last_s=last_s, end_tokens=(tokenizer.control.im_end,), max_tokens=8)
    for _ in range(ROUNDS):
        reader, leaves, fresh = reader_for(find_task(task), tokenizer, context), 1, [0]
        while fresh:
            given = {leaf: rows[leaf % 8] for leaf in fresh}
            start = time.thread_time()
            growths = reader.read(given)
            spent.append(time.thread_time() - start)
            fresh = list(range(leaves, leaves + len(growths)))
            leaves += len(growths)
    print(f"{task}, {last_s:g} s: {median(spent) * 1e3:.2f} ms a read, {max(spent) * 1e3:.2f} at most")
    assert median(spent) * 1e3 < MOST_MS


def test_a_vocabulary_is_sorted_in_less_than_seconds(tokenizer: Tokenizer) -> None:
    start = time.thread_time()
    Spelling(tokenizer)
    spent = time.thread_time() - start
    print(f"{spent:.2f} s")
    assert spent < MOST_BUILD_S
