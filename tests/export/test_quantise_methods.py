"""GPTQ and AWQ against their definitions, worked out by numpy without their shortcuts; folding against a model."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from checkpoint_makers import save_both, tiny_model
from decoder_loop import lively
from numpy.typing import NDArray
from quantise_cases import tiny_weights
from torch import Tensor

from edge_sdk.errors import ConfigError
from edge_sdk.export.adapters import Adapter, Merged
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.eager import Line, decode, embedding_rows
from edge_sdk.export.quantise import methods
from edge_sdk.export.quantise.awq import awq_scales
from edge_sdk.export.quantise.folding import FOLDED, FoldedAdapter, FoldedWeights, folded_gram
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.gptq import gptq, output_error
from edge_sdk.export.quantise.methods import Methods
from edge_sdk.export.quantise.recipe import QuantiseRecipe, Storage, load_quantise_recipe
from edge_sdk.export.quantise.rounding import restored, rounded, scales_of
from edge_sdk.export.quantise.statistics import Group

INPUTS, OUTPUTS, SAMPLES = 128, 7, 800
W4, W8 = Format(bits=4, block=32), Format(bits=8)
FORMATS = [W4, Format(bits=4, block=128), Format(bits=4, block=16), W8]
Wide = NDArray[np.float64]


def problem(seed: int = 0, draw: int = 0) -> tuple[Tensor, Tensor]:
    """A matrix, and inputs that depend on one another and differ a hundredfold in size, as a transformer's do.

    Another `draw` gives other inputs of the same kind.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.logspace(-1, 1, INPUTS)[torch.randperm(INPUTS, generator=generator)]
    mix = torch.randn(INPUTS, INPUTS, generator=generator) * sizes * 0.1
    matrix = torch.randn(INPUTS, OUTPUTS, generator=generator) * 0.05
    return matrix, torch.randn(SAMPLES, INPUTS, generator=generator.manual_seed(seed + 1000 * (draw + 1))) @ mix


def by_least_squares(matrix: Tensor, x: Tensor, form: Format, damping: float, order: list[int]) -> NDArray[np.int8]:
    """Rows are rounded in `order`; after each, those left are solved anew for the outputs that are still wanted."""
    gram = (x.T @ x).double().numpy()
    ridge = np.sqrt(damping * np.diag(gram).mean())
    inputs = np.concatenate([x.double().numpy(), ridge * np.eye(INPUTS)])
    wanted, work = inputs @ matrix.double().numpy(), matrix.double().numpy().copy()
    scales = scales_of(matrix, form, torch.float32)
    numbers = np.zeros(matrix.shape, np.int8)
    for step, row in enumerate(order):
        if form.block and row % form.block == 0 and order == sorted(order):
            block = torch.from_numpy(work[row : row + form.block]).float()
            scales[row // form.block] = scales_of(block, form, torch.float32)[0]
        scale = (scales[row // form.block] if form.block else scales).double().numpy()
        numbers[row] = np.clip(np.round(work[row] / scale), form.lowest, form.highest)
        work[row] = numbers[row] * scale
        done, left = order[: step + 1], order[step + 1 :]
        if left:
            work[left] = np.linalg.lstsq(inputs[:, left], wanted - inputs[:, done] @ work[done], rcond=None)[0]
    return numbers


@pytest.mark.parametrize("form", FORMATS, ids=str)
@pytest.mark.parametrize("ordered", [False, True], ids=["in turn", "by energy"])
def test_gptq_is_least_squares_after_every_row(form: Format, ordered: bool) -> None:
    matrix, x = problem()
    gram = x.T @ x
    energy = np.argsort(-np.diag(gram.numpy()), kind="stable").tolist()
    expected = by_least_squares(matrix, x, form, 0.01, energy if ordered else list(range(INPUTS)))
    numbers, _ = gptq(matrix, gram, form, torch.float32, ordered=ordered)
    # A number that lies between two may fall to either in float32; its followers then differ too.
    assert np.mean(numbers.numpy() == expected) > 0.99


@pytest.mark.parametrize("form", FORMATS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_gptq_costs_less_than_rounding_on_what_it_saw_and_on_more_of_its_kind(form: Format, seed: int) -> None:
    matrix, x = problem(seed)
    scales = scales_of(matrix, form, torch.float16)
    plain = restored(rounded(matrix, scales, form), scales, form)
    found = restored(*gptq(matrix, x.T @ x, form, torch.float16, ordered=True), form)
    for inputs in (x, problem(seed, draw=1)[1]):
        cost, usual = (float((inputs @ (each - matrix)).square().sum()) for each in (found, plain))
        assert cost < 0.8 * usual


def test_the_error_by_the_gram_is_the_error_of_the_products() -> None:
    matrix, x = problem()
    change = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(5)) * 0.01
    expected = float((x.double() @ change.double()).square().sum())
    assert output_error(change, x.T @ x) == pytest.approx(expected, rel=1e-4)


def test_inputs_that_never_spoke_are_rounded_to_the_nearest() -> None:
    matrix, x = problem()
    x[:, [3, 40]] = 0
    numbers, scales = gptq(matrix, x.T @ x, W8, torch.float32)
    nearest = rounded(matrix, scales, W8)
    assert torch.equal(numbers[[3, 40]], nearest[[3, 40]])
    silent, _ = gptq(matrix, torch.zeros(INPUTS, INPUTS), W8, torch.float32)
    assert torch.equal(silent, rounded(matrix, scales, W8))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_statistics_that_are_not_finite_are_refused(bad: float) -> None:
    matrix, x = problem()
    gram = x.T @ x
    gram[2, 2] = bad
    with pytest.raises(ConfigError, match="NaN or infinity; calibrate again"):
        gptq(matrix, gram, W8, torch.float32)


def test_more_inputs_than_one_stride_agree_with_least_squares_error() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(600, 320, generator=generator) @ torch.randn(320, 320, generator=generator) * 0.1
    matrix = torch.randn(320, 5, generator=generator)
    numbers, scales = gptq(matrix, x.T @ x, W4, torch.float32)
    plain = scales_of(matrix, W4, torch.float32)
    cost = output_error(restored(numbers, scales, W4) - matrix, x.T @ x)
    usual = output_error(restored(rounded(matrix, plain, W4), plain, W4) - matrix, x.T @ x)
    assert cost < 0.6 * usual


class Seen:
    """What `Methods` takes of statistics: the same inputs everywhere."""

    def __init__(self, x: Tensor) -> None:
        self._group = Group(x.T @ x, x.abs().mean(0), x.abs().amax(0))

    def group(self, decoder: str, layer: int, group: str) -> Group:
        return self._group


@pytest.mark.parametrize("broken", [False, True], ids=["better", "not a number"])
def test_the_nearest_is_stored_where_gptq_costs_no_less(broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, x = problem()
    name, form, recipe = "decoder.layers.0.q.weight", W8, QuantiseRecipe(rounding="gptq", linears=Storage(bits=8))
    made = Methods(tiny_weights(), recipe, "base", {name: form}, torch.float32, (), Seen(x))  # type: ignore[arg-type]
    if broken:
        lost = (torch.zeros(matrix.shape, dtype=torch.int8), torch.full((OUTPUTS,), torch.nan))
        monkeypatch.setattr(methods, "gptq", lambda *given, **settings: lost)
    assert made.solver is not None
    numbers, scales = made.solver(name, matrix, form)
    nearest = rounded(matrix, scales_of(matrix, form, torch.float32), form)
    assert torch.equal(scales, scales_of(matrix, form, torch.float32))
    assert torch.equal(numbers, nearest) == broken


class SeenEverywhere:
    """What `Methods` takes of statistics: inputs of the group's own width, a few of them far wider than the others."""

    def group(self, decoder: str, layer: int, group: str) -> Group:
        widths = {"qkv": 64, "o": 64, "mlp": 64, "down": 96}
        x = torch.randn(200, widths[group], generator=torch.Generator().manual_seed(layer))
        x[0, :3] *= 300
        return Group(x.T @ x, x.abs().mean(0), x.abs().amax(0))


def test_smoothing_leaves_alone_inputs_that_stay_float(tmp_path: Path) -> None:
    """Those of `down` in the shipped recipe: neither it nor the outputs of `up` change, all that is rounded does."""
    plain, recipe = tiny_weights(), load_quantise_recipe("w8a8")
    folders = tuple(tmp_path / str(layer) for layer in range(2))
    formats, seen = recipe.formats(2), SeenEverywhere()
    made = Methods(plain, recipe, "base", formats, torch.float32, folders, seen)  # type: ignore[arg-type]
    for layer, folder in enumerate(folders):
        folder.mkdir()
        made.write_scales(layer, folder)
        before, after = (
            {part: each.tensor(f"decoder.layers.{layer}.{part}.weight").float() for part in ("q", "gate", "up", "down")}
            for each in (plain, made.weights)
        )
        assert torch.equal(after["down"], before["down"])
        up, gate = (after[part] / before[part] for part in ("up", "gate"))
        torch.testing.assert_close(up, up[:1].expand_as(up))  # each input by one number, whatever the output
        torch.testing.assert_close(up[0], gate[0])
        assert not torch.allclose(gate[0], torch.ones(64), rtol=0.1)
        assert not torch.allclose(after["q"], before["q"], rtol=0.1)


@pytest.mark.parametrize(
    "settings",
    [
        "[linears]\nbits = 8\nnumber = 'fp8'",
        "[[exceptions]]\nlinears = ['down']\nlayers = [1]\nstorage = { bits = 8, number = 'fp8' }",
    ],
    ids=["linears", "an exception"],
)
def test_gptq_with_fp8_is_refused_when_a_recipe_is_read(settings: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"rounding = 'gptq'\n{settings}\n")
    with pytest.raises(ConfigError, match=r'mine\.toml.* found number = "fp8" .* rounding = "nearest" for fp8'):
        load_quantise_recipe(path)
    # The head and the tower are always rounded to the nearest.
    path.write_text("rounding = 'gptq'\n[head]\nbits = 8\nnumber = 'fp8'\n[vision]\nbits = 8\nnumber = 'fp8'\n")
    assert load_quantise_recipe(path).rounding == "gptq"
    path.write_text(f"{settings}\n")
    assert load_quantise_recipe(path).rounding == "nearest"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_fp8_scales_make_the_largest_value_that_of_e4m3(dtype: torch.dtype) -> None:
    """448 by two libraries' definitions of the type: an independent tool has |x| of inputs by it, too."""
    highest = float(ml_dtypes.finfo(ml_dtypes.float8_e4m3fn).max)
    assert highest == torch.finfo(torch.float8_e4m3fn).max
    recipe, seen = load_quantise_recipe("fp8"), SeenEverywhere()
    made = Methods(tiny_weights(), recipe, "base", recipe.formats(2), dtype, (), seen)  # type: ignore[arg-type]
    for group in ("qkv", "o", "mlp"):
        largest = float(seen.group("base", 1, group).largest.max())
        scale = made.input_scale(1, group)
        assert scale.dtype == dtype
        assert float(scale) == pytest.approx(largest / highest, rel=float(torch.finfo(dtype).eps))
    matrix, _ = problem()
    expected = np.abs(matrix.numpy()).max(0) / highest
    found = scales_of(matrix, Format(bits=8, number="fp8"), dtype)
    np.testing.assert_allclose(found.float().numpy(), expected, rtol=float(torch.finfo(dtype).eps))


def paper_costs(matrices: list[Wide], x: Wide, form: Format) -> dict[float, tuple[float, Wide]]:
    """AWQ's equation 4 with the activations themselves, for each exponent of its grid."""
    found = {}
    for step in range(20):
        s = np.abs(x).mean(0) ** (step / 20)
        s = s / np.sqrt(s.max() * s.min())
        cost = 0.0
        for w in matrices:
            blocks = (w * s[:, None]).reshape(-1, form.block or INPUTS, w.shape[1])
            step_size = np.maximum(blocks.max(1) / form.highest, blocks.min(1) / form.lowest)[:, None]
            q = (np.clip(np.round(blocks / step_size), form.lowest, form.highest) * step_size).reshape(w.shape)
            cost += float((((x / s) @ q - x @ w) ** 2).sum())
        found[step / 20] = cost, s
    return found


@pytest.mark.parametrize("form", FORMATS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_awq_finds_the_scales_that_the_paper_defines(form: Format, seed: int) -> None:
    (one, x), (other, _) = problem(seed), problem(seed + 10)
    costs = paper_costs([one.double().numpy(), other.double().numpy()], x.double().numpy(), form)
    matrices, magnitude = {"q": one, "k": other}, x.abs().mean(0)
    scales = awq_scales(matrices, x.T @ x, magnitude, {"q": form, "k": form}, torch.float32)
    found = next(cost for cost, s in costs.values() if np.allclose(s, scales.numpy(), rtol=1e-4))
    # Exponents that cost nearly the same may change places in float32.
    assert found <= 1.001 * min(cost for cost, _ in costs.values())
    assert found <= costs[0.0][0]


def test_awq_leaves_alone_what_is_not_rounded() -> None:
    matrix, x = problem()
    scales = awq_scales({"q": matrix}, x.T @ x, x.abs().mean(0), {}, torch.float32)
    assert torch.equal(scales, torch.ones(INPUTS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_both(lively(tiny_model(), 3.0), tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("form", ["bare", "merged", "beside"])
def test_a_folded_model_computes_what_it_did(folder: Path, form: str) -> None:
    base = Checkpoint.open(folder / "base")
    adapter = Adapter.open(folder / "adapter")
    text = base.config.text
    generator = torch.Generator().manual_seed(3)
    widths = {"qkv": text.hidden, "mlp": text.hidden, "down": text.intermediate}
    kept = {(i, g): torch.rand(widths[g], generator=generator) * 4 + 0.2 for i in range(text.layers) for g in FOLDED}

    def scales(layer: int, group: str) -> Tensor | None:
        return kept.get((layer, group))

    weights = Merged(base, adapter) if form == "merged" else base
    beside = (adapter, FoldedAdapter(adapter, scales)) if form == "beside" else (None, None)
    embeds = embedding_rows(base, np.arange(1, 40, 3))
    logits = [
        decode(each, [Line(text, 20, lora).call(embeds)], lambda: None)[0]
        for each, lora in zip((weights, FoldedWeights(weights, scales)), beside, strict=True)
    ]
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-3, atol=1e-4)
    folded = FoldedWeights(weights, scales)
    changed = [name for name in base.names() if not torch.equal(folded.tensor(name), weights.tensor(name))]
    assert len(changed) == text.layers * 8  # both norms, and every linear but o


def test_a_folded_gram_is_that_of_the_divided_inputs() -> None:
    _, x = problem()
    scales = torch.linspace(0.1, 5, INPUTS)
    torch.testing.assert_close(folded_gram(x.T @ x, scales), (x / scales).T @ (x / scales), rtol=1e-3, atol=1e-3)
