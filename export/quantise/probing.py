"""Run probes through several models at once, layer by layer, to measure how quantisation changes the logits.

The models are the exact one and the quantised one. On request there are also models with a single quantised layer
between exact ones, and one with only a quantised vision tower. A layer's weights are read once for all models and all
probes; states are on the disk in between.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edge_sdk.bundle.proof import AnswerChange, Compared
from edge_sdk.export.adapters import Adapter
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.device import CPU
from edge_sdk.export.eager import empty_layer_cache, head_logits, lora_pairs
from edge_sdk.export.graphs.decoder import DecoderLayer, TextStep, text_rope
from edge_sdk.export.graphs.loading import load, round_inputs
from edge_sdk.export.quantise.evidence import answer_change, joined
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.rounding import restored, rounded, scales_of
from edge_sdk.export.quantise.sequences import Sequence as Tokens
from edge_sdk.files import atomic_folder

EXACT, TOGETHER, HEAD_ALONE, TOWER_ALONE = "exact", "together", "head", "tower"
# Without kept answers, this many last tokens of each question (or of a prefix without questions) are compared.
ROWS = 8
# The alternative format for linears in fewer bits that cost too much.
HIGHER = Format(bits=8)


@dataclass(frozen=True)
class Probe:
    """A sequence's file, and the adapter that is applied beside the weights, if any.

    `seen` is the file of the same clip as a quantised vision tower sees it, None where the tower is not quantised.
    `recovered` is the adapter after further training beside the stored weights, None where there was none.
    """

    name: str
    path: Path
    adapter: Adapter | None = None
    seen: Path | None = None
    recovered: Adapter | None = None

    @property
    def beside_stored(self) -> Adapter | None:
        """The adapter that is applied beside the stored weights."""
        return self.recovered or self.adapter


class Probing:
    """The models of one run: `exact`, and the quantised `stored`. `alone`: also each quantised part by itself.

    Layers compute on `device`.
    """

    def __init__(
        self,
        exact: Weights,
        stored: Weights,
        probes: Sequence[Probe],
        *,
        alone: bool,
        device: torch.device = CPU,
    ) -> None:
        self._exact, self._stored, self._probes, self._alone = exact, stored, tuple(probes), alone
        self._text, self._device = exact.config.text, device
        cos, sin = text_rope(self._text)
        self._rope = (cos.to(device), sin.to(device))

    @torch.inference_mode()
    def layer(self, index: int, before: Path, after: Path) -> None:
        """Compute the states after a layer from those before it; `before` need not exist for the first layer."""
        exact, stored = (self._module(weights, index) for weights in (self._exact, self._stored))
        with atomic_folder(after, overwrite=True) as draft:
            for probe in self._probes:
                run_exact = partial(self._runner(probe, index, probe.adapter), exact)
                run_stored = partial(self._runner(probe, index, probe.beside_stored), stored)
                given = self._given(probe, index, before)
                found = {name: (run_stored if name == TOGETHER else run_exact)(x) for name, x in given.items()}
                if self._alone:
                    found[lone(index)] = run_stored(given[EXACT])
                for name, state in found.items():
                    save_file({"state": state.cpu().contiguous()}, draft / f"{name}.{probe.name}.safetensors")

    @torch.inference_mode()
    def errors(
        self, index: int, before: Path, after: Path, formats: Mapping[str, Format]
    ) -> dict[str, dict[int, float]]:
        """By linear and bits: the error of what the layer adds to its input when only that linear is quantised.

        The error is relative, a root mean square over all probes' tokens. A linear's inputs are rounded where the
        stored model's are. `formats` are those of the quantised linears; a linear with fewer than 8 bits is also tried
        in 8 bits, rounded to nearest.
        """
        exact, stored = (self._module(weights, index) for weights in (self._exact, self._stored))
        found: dict[str, dict[int, float]] = {}
        for linear, form in formats.items():
            hooks = round_inputs(exact.get_submodule(linear), self._stored, f"decoder.layers.{index}.{linear}")
            weight: Tensor = stored.get_parameter(f"{linear}.weight")
            found[linear] = {form.bits: self._error(exact, linear, weight, index, before, after)}
            for hook in hooks:
                hook.remove()
            if form.bits < HIGHER.bits:
                weight = nearest(exact.get_parameter(f"{linear}.weight"), HIGHER)
                found[linear][HIGHER.bits] = self._error(exact, linear, weight, index, before, after)
        return found

    def _error(self, exact: DecoderLayer, linear: str, weight: Tensor, index: int, before: Path, after: Path) -> float:
        error = whole = 0.0
        for probe in self._probes:
            x, y = self._given(probe, index, before)[EXACT], self._state(after, EXACT, probe)
            with _with_weight(exact, linear, weight):
                changed = self._runner(probe, index, probe.adapter)(exact, x)
            error += float((changed - y).double().square().sum())
            whole += float((y - x).double().square().sum())
        return math.sqrt(error / whole)

    @torch.inference_mode()
    def changes(self, states: Path) -> dict[str, AnswerChange]:
        """Compare every model's next-token distributions with the exact model's, from states after the last layer."""
        norm = load(self._exact, "decoder.norm.", partial(nn.RMSNorm, self._text.hidden, self._text.eps)).to(
            self._device
        )
        parts: dict[str, list[AnswerChange]] = {}
        for probe in self._probes:
            rows = wanted_rows(Tokens.load(probe.path))
            held = {name: norm(self._state(states, name, probe)[0][rows]) for name in self._names(self._text.layers)}
            plain = {name: state for name, state in held.items() if name != TOGETHER}
            logits = dict(zip(plain, head_logits(self._exact, list(plain.values())), strict=True))
            ends = head_logits(self._stored, [held[EXACT], held[TOGETHER]])
            logits |= {HEAD_ALONE: ends[0], TOGETHER: ends[1]}
            wanted = logits.pop(EXACT).cpu().numpy()
            for name, found in logits.items():
                parts.setdefault(name, []).append(answer_change(found.cpu().numpy(), wanted))
        return {name: joined(each) for name, each in parts.items()}

    def _names(self, layer: int) -> list[str]:
        """The models that have states before a layer."""
        tower = [TOWER_ALONE] if self._alone and any(probe.seen for probe in self._probes) else []
        return [EXACT, TOGETHER, *tower, *((lone(each) for each in range(layer)) if self._alone else ())]

    def _given(self, probe: Probe, index: int, before: Path) -> dict[str, Tensor]:
        if index == 0:
            exact = Tokens.load(probe.path).embeds[None].to(self._device)
            seen = Tokens.load(probe.seen).embeds[None].to(self._device) if probe.seen else exact
            return {name: exact if name == EXACT else seen for name in self._names(0)}
        return {name: self._state(before, name, probe) for name in self._names(index)}

    def _state(self, folder: Path, name: str, probe: Probe) -> Tensor:
        return load_file(folder / f"{name}.{probe.name}.safetensors")["state"].to(self._device)

    def _module(self, weights: Weights, index: int) -> DecoderLayer:
        return load(weights, f"decoder.layers.{index}.", partial(DecoderLayer, self._text)).to(self._device)

    def _runner(self, probe: Probe, index: int, adapter: Adapter | None) -> Callable[[DecoderLayer, Tensor], Tensor]:
        tokens = Tokens.load(probe.path).to(self._device)
        step = TextStep.of(tokens.call([]).feeds, self._rope, "native")
        past = empty_layer_cache(self._text, len(tokens.embeds), self._device)
        lora = lora_pairs(adapter, index, self._device)

        def run(module: DecoderLayer, x: Tensor) -> Tensor:
            found: Tensor = module(x, step, past, lora)[0]
            return found

        return run


def measure_together(
    exact: Weights, stored: Weights, probes: Sequence[Probe], states: Path, device: torch.device = CPU
) -> AnswerChange:
    """Compare `stored` with `exact` on `probes`; meanwhile states lie in folders whose names begin with `states`."""
    probing, layers = Probing(exact, stored, probes, alone=False, device=device), exact.config.text.layers
    sides = [states.with_name(f"{states.name}.{side}") for side in (0, 1)]
    try:
        for layer in range(layers):
            probing.layer(layer, sides[layer % 2], sides[1 - layer % 2])
        return probing.changes(sides[layers % 2])[TOGETHER]
    finally:
        for side in sides:
            shutil.rmtree(side, ignore_errors=True)


def compared(probes: Sequence[Probe]) -> Compared:
    """The part of `probes` that is compared: their answers, or their questions where a probe has no answers."""
    return "answers" if all(Tokens.load(probe.path).rows is not None for probe in probes) else "questions"


def lone(layer: int) -> str:
    """Name of the model in which only this layer is quantised."""
    return f"{layer:02}"


def wanted_rows(tokens: Tokens) -> Tensor:
    """Rows that predict the tokens of answers; without answers, the last `ROWS` rows of every question."""
    if tokens.rows is not None:
        return tokens.rows
    branch = tokens.branch
    numbers = [int(number) for number in branch.unique() if number] or [0]
    return torch.cat([torch.nonzero(branch == number)[-ROWS:, 0] for number in numbers])


def nearest(weight: Tensor, form: Format) -> Tensor:
    """A linear's weight `[outputs, inputs]` after rounding to nearest and dequantising, float32."""
    matrix = weight.t()
    scales = scales_of(matrix, form, torch.float32)
    return restored(rounded(matrix, scales, form), scales, form).t()


@contextmanager
def _with_weight(layer: DecoderLayer, linear: str, weight: Tensor) -> Iterator[None]:
    module, own = layer.get_submodule(linear), layer.get_parameter(f"{linear}.weight")
    module.weight = nn.Parameter(weight, requires_grad=False)
    try:
        yield
    finally:
        module.weight = own
