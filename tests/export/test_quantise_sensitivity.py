"""Costs of layers alone, against transformers with their weights exchanged; choices, against trying all of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_makers import save, tiny_model
from decoder_loop import lively
from torch import Tensor

from edge_sdk.bundle.proof import Sensitivity
from edge_sdk.errors import ConfigError
from edge_sdk.export.checkpoint import ChangedWeights, Checkpoint, Weights
from edge_sdk.export.layouts import HEAD, LINEARS
from edge_sdk.export.model_config import ModelConfig
from edge_sdk.export.quantise.choice import Candidate, Step, pick, reasons
from edge_sdk.export.quantise.choosing import Raised
from edge_sdk.export.quantise.decoder_files import matrix_names
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.probing import ROWS, Probe, measure_together
from edge_sdk.export.quantise.sensitivity import SensitivityRun
from edge_sdk.export.quantise.sequences import Sequence
from edge_sdk.export.stage_store import StageStore
from edge_sdk.types import TensorSpec

LENGTHS = (9, 12, 6)  # a prefix, and two questions, of which one is shorter than the rows that are compared
W4 = Format(bits=4, block=16)


class Noisy:
    """Weights whose matrices are off by seeded noise, as if they had been rounded. Keeps to `Weights`."""

    def __init__(self, weights: Weights, share: float) -> None:
        self._weights, self._share = weights, share
        self.config: ModelConfig = weights.config

    def names(self) -> tuple[str, ...]:
        return self._weights.names()

    def spec(self, name: str) -> TensorSpec:
        return self._weights.spec(name)

    def tensor(self, name: str) -> Tensor:
        found = self._weights.tensor(name)
        if name not in matrix_names(self.config.text.layers):
            return found
        noise = torch.randn(found.shape, generator=torch.Generator().manual_seed(len(name) + sum(map(ord, name))))
        return found + self._share * found.std() * noise


class Coarse(ChangedWeights):
    """The exact weights, one of whose products takes inputs of quarters. Keeps to `Weights` and `RoundedInputs`."""

    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__(weights)
        self._name = name

    def tensor(self, name: str) -> Tensor:
        return self._weights.tensor(name)

    def input_rounding(self, name: str) -> Callable[[Tensor], Tensor] | None:
        return (lambda x: (4 * x).round() / 4) if name == self._name else None


@pytest.fixture(scope="module")
def model() -> Any:
    return lively(tiny_model(), 3.0)


@pytest.fixture(scope="module")
def base(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("model")
    save(model, folder / "base")
    return Checkpoint.open(folder / "base")


def parts(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, 32, generator=generator) for length in LENGTHS]


def probes(folder: Path) -> list[Probe]:
    found = []
    for seed in (0, 1):
        prefix, *questions = parts(seed)
        found.append(Probe(f"{seed:02}.base", folder / f"{seed}.safetensors"))
        Sequence.of(prefix, questions).save(found[-1].path)
    return found


def seen(prefix: Tensor) -> Tensor:
    """A prefix some of whose tokens another tower has given."""
    return torch.cat([prefix[:2], 1.05 * prefix[2:6], prefix[6:]])


def seen_probes(folder: Path) -> list[Probe]:
    found = []
    for each, seed in zip(probes(folder), (0, 1), strict=True):
        prefix, *questions = parts(seed)
        path = folder / f"seen.{seed}.safetensors"
        found.append(dataclasses.replace(each, seen=path))
        Sequence.of(prefix, questions).with_rows(torch.arange(2, 6), seen(prefix)[2:6]).save(path)
    return found


def measured(base: Checkpoint, stored: Weights, folder: Path, given: list[Probe] | None = None) -> Sensitivity:
    formats = dict.fromkeys(matrix_names(2), W4)
    with StageStore.locked(folder / "work") as store:
        return SensitivityRun("base", base, stored, given or probes(folder), formats, {}).run(store, lambda done: None)


@torch.no_grad()
def kl_by_transformers(model: Any, changed: dict[str, Tensor], see: Callable[[Tensor], Tensor] = lambda x: x) -> float:
    """Mean KL over the last rows of every question: of some weights exchanged, behind prefixes as `see` has them."""

    def rows(see: Callable[[Tensor], Tensor]) -> list[Tensor]:
        found = []
        for seed in (0, 1):
            prefix, *questions = parts(seed)
            prefix = see(prefix)
            for question in questions:
                states = model.model.language_model(inputs_embeds=torch.cat([prefix, question])[None], use_cache=False)
                last = states.last_hidden_state[0, len(prefix) :][-ROWS:]
                found += [*(last @ model.lm_head.weight.T).double().log_softmax(1)]
        return found

    exact = rows(lambda x: x)
    own = {name: parameter.clone() for name, parameter in model.named_parameters() if name in changed}
    for name, tensor in changed.items():
        model.get_parameter(name).copy_(tensor)
    other = rows(see)
    for name, tensor in own.items():
        model.get_parameter(name).copy_(tensor)
    return float(torch.stack([(p.exp() * (p - q)).sum() for p, q in zip(exact, other, strict=True)]).mean())


def public(name: str) -> str:
    if name == HEAD:
        return "lm_head.weight"
    _, _, layer, linear, _ = name.split(".")
    return f"model.language_model.layers.{layer}.{LINEARS[linear]}.weight"


def test_every_layer_alone_costs_what_transformers_says(model: Any, base: Checkpoint, tmp_path: Path) -> None:
    stored = Noisy(base, 0.1)
    found = measured(base, stored, tmp_path)
    changed = {name: stored.tensor(name) for name in matrix_names(2)}
    for layer in (0, 1):
        alone = {public(name): tensor for name, tensor in changed.items() if f".layers.{layer}." in name}
        assert found.layers[layer].kl == pytest.approx(kl_by_transformers(model, alone), rel=0.01)
    assert found.head_kl == pytest.approx(kl_by_transformers(model, {public(HEAD): changed[HEAD]}), rel=0.01)
    every = {public(name): tensor for name, tensor in changed.items()}
    assert found.together.mean_kl == pytest.approx(kl_by_transformers(model, every), rel=0.01)
    assert found.together.steps == 2 * (ROWS + min(ROWS, LENGTHS[2]))
    together = measure_together(base, stored, probes(tmp_path), tmp_path / "states")
    assert together == found.together


def test_a_tower_alone_and_everything_behind_it_cost_what_transformers_says(
    model: Any, base: Checkpoint, tmp_path: Path
) -> None:
    stored, given = Noisy(base, 0.1), seen_probes(tmp_path)
    found = measured(base, stored, tmp_path, given)
    every = {public(name): stored.tensor(name) for name in matrix_names(2)}
    assert found.tower_kl == pytest.approx(kl_by_transformers(model, {}, seen), rel=0.01)
    assert found.together.mean_kl == pytest.approx(kl_by_transformers(model, every, seen), rel=0.01)
    # The head, and so every layer, is alone behind a tower as it was.
    head = kl_by_transformers(model, {public(HEAD): every[public(HEAD)]})
    assert found.head_kl == pytest.approx(head, rel=0.01)
    assert measure_together(base, stored, given, tmp_path / "states") == found.together
    (tmp_path / "plain").mkdir()
    assert measured(base, stored, tmp_path / "plain").tower_kl == 0


def test_what_is_raised_has_whole_inputs_and_the_rest_has_rounded_ones(base: Checkpoint, tmp_path: Path) -> None:
    stored, given = Coarse(base, "decoder.layers.1.o.weight"), probes(tmp_path)

    def kl(raised: dict[str, int]) -> float:
        return measure_together(base, Raised(stored, base, raised), given, tmp_path / "states").mean_kl

    assert kl({}) == measure_together(base, stored, given, tmp_path / "states").mean_kl > 0
    assert kl({"decoder.layers.0.o.weight": 16}) == kl({})
    assert kl({"decoder.layers.1.o.weight": 16}) == 0


def test_a_linear_whose_inputs_are_rounded_bears_what_that_costs(base: Checkpoint, tmp_path: Path) -> None:
    found = measured(base, Coarse(base, "decoder.layers.1.o.weight"), tmp_path)
    first, second = found.layers
    assert (first.kl, found.head_kl) == (0, 0)
    # 8 bits are tried with inputs as they are, and to the nearest: the weights alone.
    assert second.linears["o"].errors[4] > second.linears["o"].errors[8] > 0
    assert second.linears["o"].kl == pytest.approx(second.kl)
    assert second.kl > 0
    assert not list((tmp_path / "work").glob("probed*")) + list(tmp_path.glob("states*"))


@torch.no_grad()
def test_a_linear_alone_is_off_by_what_transformers_layer_says(model: Any, base: Checkpoint, tmp_path: Path) -> None:
    stored = Noisy(base, 0.1)
    found = measured(base, stored, tmp_path).layers[0].linears
    assert set(found) == set(LINEARS)
    prefix, first, _ = parts(0)
    layer = model.model.language_model.layers[0]
    squared = []
    for linear in ("q", "down"):
        name = f"decoder.layers.0.{linear}.weight"
        kept: dict[str, Tensor] = {}
        hook = layer.register_forward_hook(lambda _m, _i, out, kept=kept: kept.update(y=out))
        model.model.language_model(inputs_embeds=torch.cat([prefix, first])[None], use_cache=False)
        exact, own = kept["y"], model.get_parameter(public(name)).clone()
        model.get_parameter(public(name)).copy_(stored.tensor(name))
        model.model.language_model(inputs_embeds=torch.cat([prefix, first])[None], use_cache=False)
        model.get_parameter(public(name)).copy_(own)
        hook.remove()
        error = (kept["y"] - exact).norm() / (exact - torch.cat([prefix, first])).norm()
        # one question of one clip here, both questions of both clips there
        assert found[linear].errors[4] == pytest.approx(float(error), rel=0.35)
        squared.append(found[linear].errors[4] ** 2)
        assert 0 < found[linear].errors[8] < 0.03
    assert found["q"].kl / found["down"].kl == pytest.approx(squared[0] / squared[1])


def test_a_stopped_run_goes_on_and_finds_the_same(base: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    stored, formats = Noisy(base, 0.1), dict.fromkeys(matrix_names(2), W4)
    whole = measured(base, stored, tmp_path / "whole")

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with StageStore.locked(tmp_path / "stopped/work") as store, pytest.raises(KeyboardInterrupt):
        SensitivityRun("base", base, stored, probes(tmp_path / "stopped"), formats, {}).run(store, stop)
    first = tmp_path / "stopped/work/sensitivity.base.00/receipt.json"
    before = first.stat().st_mtime_ns
    assert measured(base, stored, tmp_path / "stopped") == whole
    assert first.stat().st_mtime_ns == before


def candidates(seed: int, count: int = 7) -> list[Candidate]:
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        kl, size = float(random.exponential()), int(random.integers(1, 9)) * 1000
        found.append(Candidate(f"m{number}", kl, (Step(8, kl / 100, size), Step(16, 0.0, 3 * size))))
    return found


def best(every: list[Candidate], allowed: float) -> float:
    """The least KL of all choices within so many bytes more."""
    options = [[(each.kl, 0), *((step.kl, step.more_bytes) for step in each.steps)] for each in every]
    sums = ((sum(kl for kl, _ in c), sum(size for _, size in c)) for c in itertools.product(*options))
    return min(kl for kl, size in sums if size <= allowed)


@pytest.mark.parametrize("seed", range(4))
def test_a_choice_is_within_its_budget_and_near_the_best_of_all(seed: int) -> None:
    every = candidates(seed)
    found = pick(every, 10_000, None, 25_000)
    assert found.size_bytes <= 25_000
    size = 10_000 + sum(step.more_bytes for step in found.steps.values())
    left = sum(found.steps[each.name].kl if each.name in found.steps else each.kl for each in every)
    assert (found.size_bytes, found.kl) == (size, pytest.approx(left))
    # greedy leaves at most the dearest item that no longer fitted
    assert found.kl <= best(every, 15_000) + max(each.kl for each in every)
    assert found.kl < sum(each.kl for each in every)


def test_a_limit_of_kl_is_met_with_no_more_than_it_needs() -> None:
    every = candidates(1)
    whole = sum(each.kl for each in every)
    found = pick(every, 10_000, whole / 4, None)
    assert found.kl <= whole / 4
    told = list(reasons(every, found, whole / 4))
    assert {each.name for each in told} == set(found.steps)
    assert told[0].reason.startswith(f"kept in 8 bits: costs {max(e.kl for e in every):.2g} of {whole / 4:.2g} KL")
    assert pick(every, 10_000, 2 * whole, None).steps == {}


def test_limits_that_nothing_meets_say_what_would() -> None:
    every = candidates(2)
    whole = sum(each.kl for each in every)
    with pytest.raises(ConfigError, match=r"--budget-mb 0\.009: the decoder takes at least 0\.01 MB"):
        pick(every, 10_000, None, 9_000)
    with pytest.raises(ConfigError, match=r"cannot be met within --budget-mb 0\.0.*the best is .* raise a limit"):
        pick(every, 10_000, whole / 50, 12_000)
