"""Find a recipe that meets given limits: measure sensitivity on the calibration's probes, and choose by it.

The decoder is first made by the recipe as given, in the work folder in which the bundle is made afterwards, so that
stages that the choice does not change are made only once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from torch import Tensor

from edge_sdk.bundle.proof import VISION, AnswerChange, Choice, Sensitivity
from edge_sdk.console import Progress
from edge_sdk.errors import ConfigError
from edge_sdk.export.checkpoint import ChangedWeights, Weights
from edge_sdk.export.graphs.loading import RoundedInputs, source_name
from edge_sdk.export.language_stages import Inputs
from edge_sdk.export.layouts import HEAD
from edge_sdk.export.quantise.choice import Candidate, Picked, Step, check_budget, pick, reasons
from edge_sdk.export.quantise.decoder_files import DecoderFiles, linear_name
from edge_sdk.export.quantise.evidence import joined
from edge_sdk.export.quantise.plan import SEEN_STAGE, QuantisedPlan, part_name
from edge_sdk.export.quantise.probing import HIGHER, measure_together, nearest
from edge_sdk.export.quantise.recipe import Otherwise, QuantiseRecipe, Storage
from edge_sdk.export.quantise.sensitivity import SensitivityRun
from edge_sdk.export.quantise.stages import decoder_stages, folders_of
from edge_sdk.export.stage_store import Stage, StageStore

_FULL = 16
_MB = 1e6
# Number of choices that are measured before giving up.
_ROUNDS = 5


MakePlan = Callable[[QuantiseRecipe], tuple[QuantisedPlan, Sequence[Stage]]]
"""The plan of a recipe, and its stages."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a choice: KL on the probes, nats per token, and the decoders' files, 10^6 bytes; None: no limit."""

    max_kl: float | None = None
    budget_mb: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("--max-kl", self.max_kl), ("--budget-mb", self.budget_mb)):
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be above 0, found {value:g}")


@dataclass(frozen=True)
class Found:
    """The recipe to follow, and the measurements that led to it."""

    recipe: QuantiseRecipe
    sensitivity: tuple[Sensitivity, ...]
    choice: Choice | None


def find(make_plan: MakePlan, recipe: QuantiseRecipe, store: StageStore, limits: Limits | None, quiet: bool) -> Found:
    """Measure every layer's sensitivity to `recipe` and, with `limits`, choose what stays in more bits.

    Raises `ConfigError` for statistics without probes and for limits that nothing meets.
    """
    plan, stages = make_plan(recipe)
    stored = stored_decoders(plan, stages, store, quiet)
    with Progress("sensitivity", quiet=quiet) as progress:
        sensitivity = tuple(_sensitivity(plan, key, stored[key], stages, store, progress) for key in plan.decoders)
    if limits is None:
        return Found(plan.quantise, sensitivity, None)
    choosing = _Choosing(plan, stored, sensitivity, store, lambda other: _written(make_plan, other, store, quiet))
    return choosing.run(limits)


def stored_decoders(plan: QuantisedPlan, stages: Sequence[Stage], store: StageStore, quiet: bool) -> dict[str, Weights]:
    """The decoders of `plan` as stored in their files; missing files are made."""
    with Progress("decoder", quiet=quiet) as progress:
        made = list(decoder_stages(stages, plan))
        for number, stage in enumerate(made):
            if store.receipt(stage) is None:
                store.make(stage, lambda done: None)
            progress(number + 1, len(made), stage.name)
    return {key: plan.restored(key, folders_of(plan, key, store.folder)) for key in plan.decoders}


def _written(make_plan: MakePlan, recipe: QuantiseRecipe, store: StageStore, quiet: bool) -> AnswerChange:
    """Measure what the files of a bundle made by `recipe` cost in accuracy."""
    plan, stages = make_plan(recipe)
    stored = stored_decoders(plan, stages, store, quiet)
    exact = {key: methods.weights for key, methods in plan.methods.items()}
    return joined(
        [
            measure_together(exact[key], stored[key], plan.probes(key), store.folder / f"measured.{key}", plan.device)
            for key in plan.decoders
        ]
    )


def check(plan: QuantisedPlan, limits: Limits | None) -> None:
    """Raise `ConfigError` for a plan without clips to measure on, and for a budget below its fewest bits."""
    if plan.statistics is None or not plan.statistics.index.probes:
        raise ConfigError(
            "sensitivity is measured on clips that a calibration has kept; run edge-sdk calibrate and give its folder "
            "with --statistics"
        )
    if limits and limits.budget_mb is not None:
        check_budget(files_bytes(plan, plan.quantise), limits.budget_mb * _MB)


def files_bytes(plan: QuantisedPlan, recipe: QuantiseRecipe) -> int:
    """Bytes that the decoders' files of `plan` take by another recipe."""
    layers, dtype = plan.checkpoint.config.text.layers, plan.recipe.dtype
    formats, rounded = recipe.formats(layers), recipe.rounded_inputs(layers)
    files = (
        DecoderFiles(each.weights, dtype, formats, rounded=rounded, input_scales=each.input_scale)
        for each in plan.methods.values()
    )
    return sum(file.size_bytes for each in files for file in each.files)


def sensitivity_inputs(plan: QuantisedPlan, key: str, stages: Sequence[Stage]) -> Inputs:
    """All that the costs of the decoder `key` depend on: its weights, their adapters, and what the tower sees."""
    names = {stage.name for stage in decoder_stages(stages, plan) if stage.name.startswith(part_name(key))}
    names |= {f"lora.{adapter}" for adapter, decoder in plan.decoder_of.items() if decoder == key} | {SEEN_STAGE}
    return {stage.name: dict(stage.inputs) for stage in stages if stage.name in names}


def _sensitivity(
    plan: QuantisedPlan, key: str, stored: Weights, stages: Sequence[Stage], store: StageStore, progress: Progress
) -> Sensitivity:
    inputs = sensitivity_inputs(plan, key, stages)
    exact, layers = plan.methods[key].weights, plan.checkpoint.config.text.layers
    run = SensitivityRun(key, exact, stored, plan.probes(key), plan.formats, inputs, plan.device)
    return run.run(store, lambda done: progress(done, layers, key))


class _Choosing:
    def __init__(
        self,
        plan: QuantisedPlan,
        stored: Mapping[str, Weights],
        sensitivity: tuple[Sensitivity, ...],
        store: StageStore,
        written: Callable[[QuantiseRecipe], AnswerChange],
    ) -> None:
        """`written` measures the files of another recipe, which replace those of `stored`."""
        self._plan, self._stored, self._sensitivity, self._store = plan, stored, sensitivity, store
        self._written = written
        self._together = joined([each.together for each in sensitivity])
        self._candidates = tuple(self._scaled())
        self._size_bytes = files_bytes(plan, plan.quantise)

    def run(self, limits: Limits) -> Found:
        """Choose, measure the choice, and choose more where the parts' costs add up to less than the measured whole.

        A choice is first measured with matrices raised beside those already stored, which is cheap. When that meets
        the limit, the files to be written are measured: there AWQ and GPTQ depend on the formats of all matrices that
        share inputs.
        """
        aim, budget_bytes = limits.max_kl, None if limits.budget_mb is None else limits.budget_mb * _MB
        recipe, measured, written = self._plan.quantise, self._together, False
        for done in range(_ROUNDS):
            try:
                picked = pick(self._candidates, self._size_bytes, aim, budget_bytes)
            except ConfigError as error:
                if not done:
                    raise
                raise self._missed(limits, done, measured, recipe) from error  # it names the aim, not the limit
            recipe, measured = self._recipe(picked), self._together
            if picked.steps and not written:
                measured = self._measured(picked)
            if picked.steps and (written or _within(measured, limits)):
                measured, written = self._written(recipe), True
            if aim is None or limits.max_kl is None or _within(measured, limits):
                return Found(recipe, self._sensitivity, self._choice(limits, picked, recipe, measured))
            aim *= 0.9 * limits.max_kl / measured.mean_kl
        raise self._missed(limits, _ROUNDS, measured, recipe)

    def _missed(self, limits: Limits, choices: int, measured: AnswerChange, recipe: QuantiseRecipe) -> ConfigError:
        """The error for choices that were predicted to meet the limit and did not when measured."""
        asked = "" if limits.max_kl is None else f"--max-kl {limits.max_kl:g}: "
        number = "1 choice was" if choices == 1 else f"{choices} choices were"
        return ConfigError(
            f"{asked}expected a choice with at most this KL; {number} measured, and the last "
            f"has {measured.mean_kl:.3g} in {files_bytes(self._plan, recipe) / _MB:,.2f} MB; give that as the limit, "
            "or a recipe of more bits"
        )

    def _choice(self, limits: Limits, picked: Picked, recipe: QuantiseRecipe, measured: AnswerChange) -> Choice:
        return Choice(
            max_kl=limits.max_kl,
            budget_mb=limits.budget_mb,
            lowest_mb=self._size_bytes / _MB,
            lowest_kl=self._together.mean_kl,
            size_mb=files_bytes(self._plan, recipe) / _MB,
            expected_kl=max(0.0, picked.kl),
            measured_kl=measured.mean_kl,
            kept=tuple(reasons(self._candidates, picked, limits.max_kl)),
        )

    def _scaled(self) -> Iterator[Candidate]:
        """Every quantised matrix with its mean cost over the decoders, scaled so that costs add up to the whole."""
        parts = [
            {linear_name(layer.layer, lin): cost for layer in each.layers for lin, cost in layer.linears.items()}
            for each in self._sensitivity
        ]
        tower = sum(each.tower_kl for each in self._sensitivity)
        alone = sum(cost.kl for part in parts for cost in part.values()) + sum(e.head_kl for e in self._sensitivity)
        scale = self._together.mean_kl / (alone + tower) if alone + tower > 0 else 0.0
        if tower:
            yield Candidate(VISION, scale * tower, ())  # no choice about the decoder reduces this cost
        for name, form in self._plan.formats.items():
            if name == HEAD:
                kl, higher = scale * sum(each.head_kl for each in self._sensitivity), None
            else:
                costs = [part[name] for part in parts]
                kl = scale * sum(cost.kl for cost in costs)
                ratios = [
                    (cost.errors.get(HIGHER.bits, 0.0) / max(cost.errors[form.bits], 1e-30)) ** 2 for cost in costs
                ]
                higher = kl * min(1.0, max(ratios)) if form.bits < HIGHER.bits else None
            own = self._bytes(name, form.bits)
            steps = [Step(HIGHER.bits, higher, self._bytes(name, HIGHER.bits) - own)] if higher is not None else []
            yield Candidate(name, kl, (*steps, Step(_FULL, 0.0, self._bytes(name, _FULL) - own)))

    def _bytes(self, name: str, bits: int) -> int:
        """Bytes of one matrix in all decoders."""
        plan = self._plan
        outputs, inputs = plan.checkpoint.spec(source_name(plan.checkpoint, name)).shape
        shape, dtype = (int(inputs), int(outputs)), plan.recipe.dtype
        if bits == _FULL:
            each = shape[0] * shape[1] * (2 if dtype == "float16" else 4)
        else:
            form = plan.formats[name] if plan.formats[name].bits == bits else HIGHER
            each = form.size_bytes(shape, dtype)
        return each * len(plan.decoders)

    def _recipe(self, picked: Picked) -> QuantiseRecipe:
        more = []
        for name, step in sorted(picked.steps.items()):
            storage = Storage(bits=8 if step.bits == HIGHER.bits else 16)
            if name == HEAD:
                continue
            _, _, layer, linear, _ = name.split(".")
            more.append(Otherwise(linears=(linear,), layers=(int(layer),), storage=storage))
        recipe = msgspec.structs.replace(self._plan.quantise, exceptions=(*self._plan.quantise.exceptions, *more))
        return msgspec.structs.replace(recipe, head=Storage(bits=16)) if HEAD in picked.steps else recipe

    def _measured(self, picked: Picked) -> AnswerChange:
        return joined([self._measure(key, picked) for key in self._plan.decoders])

    def _measure(self, key: str, picked: Picked) -> AnswerChange:
        exact = self._plan.methods[key].weights
        kept = {name: step.bits for name, step in picked.steps.items()}
        weights = Raised(self._stored[key], exact, kept)
        probes, states = self._plan.probes(key), self._store.folder / f"measured.{key}"
        return measure_together(exact, weights, probes, states, self._plan.device)


def _within(measured: AnswerChange, limits: Limits) -> bool:
    return limits.max_kl is None or measured.mean_kl <= limits.max_kl


class Raised(ChangedWeights):
    """`stored` with some matrices rounded to nearest in more bits, or exact as in `exact`; their inputs are unrounded.

    Implements `Weights` and `RoundedInputs`.
    """

    def __init__(self, stored: Weights, exact: Weights, bits: Mapping[str, int]) -> None:
        super().__init__(stored)
        self._exact, self._bits = exact, bits

    def tensor(self, name: str) -> Tensor:
        """See `Weights`."""
        if name not in self._bits:
            return self._weights.tensor(name)
        weight = self._exact.tensor(source_name(self._exact, name))
        return nearest(weight, HIGHER) if self._bits[name] == HIGHER.bits else weight

    def input_rounding(self, name: str) -> Callable[[Tensor], Tensor] | None:
        """See `RoundedInputs`."""
        if name in self._bits or not isinstance(self._weights, RoundedInputs):
            return None
        return self._weights.input_rounding(name)
