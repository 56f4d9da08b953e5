"""Answers read out of a small model, against transformers' greedy generation by the same model."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from answer_driver import Path, context, drive, train_bpe
from numpy.typing import NDArray
from transformers_oracle import transformers

from edge_sdk.reasoning.forms import reader_for
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import find_task

LESSONS = {
    "pre_crash_time": ("3.2 seconds", "0.0 seconds", "10.4 seconds", "8.9 seconds"),
    "crash_interval": ("3.2 - 5.0 seconds", "0.4 - 1.1 seconds", "9.9 - 10.3 seconds", "10.0 - 11.9 seconds"),
    "recognition": ("Yes", "No", "Yes", "No"),
    "cause": ("car hits a truck", "no collision.", "No accident, no cause.", "truck hits a car"),
}


def _model(size: int) -> Any:
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=size,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    return transformers.Qwen2ForCausalLM(config).eval()


class Taught:
    """A model that has learnt an answer by heart for each of four questions of each form."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.end = tokenizer, tokenizer.control.im_end
        self.model = _model(tokenizer.size)
        self.questions = {
            (task, place): [*tokenizer.encode(f"{task} {place}").tolist(), tokenizer.control.im_start]
            for task in LESSONS
            for place in range(4)
        }
        self._learn()

    def _learn(self) -> None:
        rows = [
            (self.questions[task, place], [*self.tokenizer.encode(text).tolist(), self.end])
            for task, texts in LESSONS.items()
            for place, text in enumerate(texts)
        ]
        length = max(len(question) + len(answer) for question, answer in rows)
        ids = torch.zeros((len(rows), length), dtype=torch.int64)
        labels = torch.full((len(rows), length), -100)
        for row, (question, answer) in enumerate(rows):
            ids[row, : len(question) + len(answer)] = torch.tensor(question + answer)
            labels[row, len(question) : len(question) + len(answer)] = torch.tensor(answer)
        optimiser = torch.optim.Adam(self.model.parameters(), lr=1e-2)
        for _ in range(120):
            optimiser.zero_grad()
            loss = self.model(input_ids=ids, labels=labels).loss
            loss.backward()
            optimiser.step()
        assert loss.item() < 0.05

    def greedy(self, question: list[int], most: int = 40) -> Any:
        """transformers' own: sequences and the logits of each step."""
        return self.model.generate(
            torch.tensor([question]),
            attention_mask=torch.ones((1, len(question)), dtype=torch.int64),
            do_sample=False,
            max_new_tokens=most,
            eos_token_id=self.end,
            pad_token_id=self.end,
            return_dict_in_generate=True,
            output_logits=True,
        )

    def behind(self, question: list[int]) -> Any:
        def logits(path: Path) -> NDArray[np.float32]:
            with torch.inference_mode():
                found = self.model(input_ids=torch.tensor([[*question, *path]])).logits[0, -1]
            return np.asarray(found.float().numpy())

        return logits


@pytest.fixture(scope="module", params=[(300, "digits"), (400, "gpt2")], ids=str)
def taught(request: pytest.FixtureRequest) -> Taught:
    size, split = request.param
    return Taught(train_bpe(size, split=split))


@pytest.mark.parametrize("task", LESSONS)
@pytest.mark.parametrize("place", range(4))
def test_a_form_says_what_transformers_says_where_that_is_well_formed(taught: Taught, task: str, place: int) -> None:
    question = taught.questions[task, place]
    out = taught.greedy(question)
    tokens = out.sequences[0, len(question) :].tolist()
    assert tokens[-1] == taught.end
    said = taught.tokenizer.decode(tokens[:-1])
    assert said == LESSONS[task][place]

    given = context(0.0, 11.9, taught.end)
    reader = reader_for(find_task(task), taught.tokenizer, given)
    run = drive(reader, taught.behind(question))
    assert run.answer.text == said
    assert tuple(tokens[: len(reader.ids)]) == reader.ids
    assert not run.answer.abstain
    if find_task(task).form in ("time", "interval"):
        numbers = [float(each) for each in re.findall(r"\d+\.\d", said)]
        assert run.answer.value == (numbers[0] if len(numbers) == 1 else tuple(numbers))
        assert len(run.steps) < len(tokens)
        assert run.answer.probability == pytest.approx(1.0, abs=0.2)

    free = reader_for(find_task(task), taught.tokenizer, given, free=True)
    answer = drive(free, taught.behind(question)).answer
    assert [*free.ids, taught.end] == tokens
    logs = [torch.log_softmax(step[0].double(), -1).max().item() for step in out.logits]
    assert answer.probability == pytest.approx(np.exp(np.mean(logs)), rel=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_what_was_never_learnt_is_said_alike_too(taught: Taught, seed: int) -> None:
    question = np.random.default_rng(seed).integers(3, taught.tokenizer.size, 12).tolist()
    tokens = taught.greedy(question, most=20).sequences[0, len(question) :].tolist()
    reader = reader_for(find_task("cause"), taught.tokenizer, context(end_token=taught.end, max_tokens=20))
    drive(reader, taught.behind(question))
    assert list(reader.ids) == [token for token in tokens if token != taught.end]
