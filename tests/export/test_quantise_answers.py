"""Answers that probes go on with, against transformers' own steps; and that models are compared behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_makers import save_both, tiny_model, tune
from decoder_loop import lively
from torch import Tensor

from edge_sdk.export.adapters import Adapter
from edge_sdk.export.checkpoint import ChangedWeights, Checkpoint
from edge_sdk.export.layouts import HEAD
from edge_sdk.export.quantise.answers import Answering
from edge_sdk.export.quantise.collect import Source
from edge_sdk.export.quantise.probing import Probe, compared, measure_together
from edge_sdk.export.quantise.sequences import Sequence

LENGTHS = (9, 4, 6)  # a prefix, and two questions
TOKENS = 5


@pytest.fixture(scope="module")
def model() -> Any:
    return lively(tiny_model(), 3.0)


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_both(model, tmp_path_factory.mktemp("model"))


def parts(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, 32, generator=generator) for length in LENGTHS]


def answered(folder: Path, out: Path, end: tuple[int, ...] = (), *, beside: bool = False) -> list[Sequence]:
    """Both clips' sequences with their answers."""
    sources = {}
    for place in ("given", "work", "found"):
        (out / place).mkdir()
    for seed in (0, 1):
        prefix, *questions = parts(seed)
        path = out / "given" / f"{seed}.safetensors"
        Sequence.of(prefix, questions).save(path)
        sources[f"{seed}"] = Source(path, Adapter.open(folder / "adapter") if beside else None)
    Answering(Checkpoint.open(folder / "base"), sources, end, TOKENS).write(out / "found", out / "work")
    return [Sequence.load(out / "found" / f"{seed}.safetensors") for seed in (0, 1)]


@torch.no_grad()
def said_by_transformers(model: Any, seed: int, question: int) -> list[int]:
    """Greedily, the whole sequence anew for every token."""
    given, found = torch.cat([parts(seed)[0], parts(seed)[question]]), list[int]()
    for _ in range(TOKENS):
        states = model.model.language_model(inputs_embeds=given[None], use_cache=False).last_hidden_state
        found.append(int((states[0, -1] @ model.lm_head.weight.T).argmax()))
        given = torch.cat([given, model.get_input_embeddings().weight[found[-1:]]])
    return found


def rows_of(model: Any, ids: list[int]) -> Tensor:
    return model.get_input_embeddings().weight[ids].detach()


@pytest.mark.parametrize("beside", [False, True])
def test_answers_are_those_of_transformers(model: Any, folder: Path, tmp_path: Path, beside: bool) -> None:
    oracle = tune(model, rank=4, seed=1).merge_and_unload() if beside else model
    for seed, found in enumerate(answered(folder, tmp_path, beside=beside)):
        assert found.rows is not None
        for number, question in ((1, 4), (2, 6)):
            said = said_by_transformers(oracle, seed, number)
            own = torch.nonzero(found.branch == number)[:, 0]
            torch.testing.assert_close(found.embeds[own[:question]], parts(seed)[number])
            torch.testing.assert_close(found.embeds[own[question:]], rows_of(oracle, said[:-1]), rtol=1e-3, atol=1e-4)
            assert found.positions[own].tolist() == list(range(9, 9 + len(own)))
            # The last token of the question, and every one of the answer but its last: what comes behind is the answer.
            assert [row for row in found.rows.tolist() if row in own.tolist()] == own[question - 1 :].tolist()


def test_an_answer_goes_no_further_than_its_end(model: Any, folder: Path, tmp_path: Path) -> None:
    said = said_by_transformers(model, 0, 1)
    end = next(token for token in said[1:] if token != said[0])
    found = answered(folder, tmp_path, (end,))[0]
    assert found.rows is not None
    own = torch.nonzero(found.branch == 1)[:, 0]
    length = said.index(end) + 1
    assert len(own) == LENGTHS[1] + length - 1
    assert len([row for row in found.rows.tolist() if row in own.tolist()]) == length


class Shifted(ChangedWeights):
    """Other weights in the head alone. Keeps to `Weights`."""

    def tensor(self, name: str) -> Tensor:
        found = self._weights.tensor(name)
        noise = torch.randn(found.shape, generator=torch.Generator().manual_seed(0))
        return found + 0.02 * noise if name == HEAD else found


@torch.no_grad()
def test_models_are_compared_where_the_answers_come(model: Any, folder: Path, tmp_path: Path) -> None:
    answered(folder, tmp_path)
    base = Checkpoint.open(folder / "base")
    probes = [Probe(f"{seed}", tmp_path / "found" / f"{seed}.safetensors") for seed in (0, 1)]
    found = measure_together(base, Shifted(base), probes, tmp_path / "states")
    costs = []
    for seed in (0, 1):
        for number in (1, 2):
            prefix, question, said = parts(seed)[0], parts(seed)[number], said_by_transformers(model, seed, number)
            given = torch.cat([prefix, question, rows_of(model, said[:-1])])
            states = model.model.language_model(inputs_embeds=given[None], use_cache=False).last_hidden_state[0]
            head = Shifted(base).tensor(HEAD)
            p, q = (
                (states[-TOKENS:] @ each.T).double().log_softmax(1) for each in (model.lm_head.weight, head.float())
            )
            costs.append((p.exp() * (p - q)).sum(1))
            assert p.argmax(1).tolist() == said
    assert found.steps == 2 * 2 * TOKENS
    assert found.mean_kl == pytest.approx(float(torch.cat(costs).mean()), rel=0.01)
    assert found.mean_kl > 1e-4
    assert compared(probes) == "answers"
    assert compared([Probe("0", tmp_path / "given/0.safetensors"), *probes]) == "questions"
