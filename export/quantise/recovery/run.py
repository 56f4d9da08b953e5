"""Recover a bundle's LoRA inputs before it is written: answer clips, then train each adapter further.

Each clip is a stage, and training saves its state, so that a stopped run resumes where it was.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import msgspec
from torch import Tensor

from edge_sdk.balance import spread
from edge_sdk.bundle.proof import VISION, Recovered
from edge_sdk.console import Progress
from edge_sdk.errors import ConfigError
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.code_digest import quantise_code
from edge_sdk.export.device import device_name
from edge_sdk.export.eager import lora_pairs
from edge_sdk.export.export_recipe import BASE
from edge_sdk.export.graphs.loading import source_name
from edge_sdk.export.language_stages import TEXT_STAGE, Inputs
from edge_sdk.export.layouts import HEAD
from edge_sdk.export.quantise.choosing import stored_decoders
from edge_sdk.export.quantise.clip_sequences import ClipReader, seen_through, sequence_file
from edge_sdk.export.quantise.plan import QuantisedPlan
from edge_sdk.export.quantise.recipe import Recover
from edge_sdk.export.quantise.recovery.lesson import Teacher
from edge_sdk.export.quantise.recovery.recovered import RecoveredLora, save_pairs
from edge_sdk.export.quantise.recovery.training import Recovery
from edge_sdk.export.quantise.recovery.whole_decoder import LayerPairs, WholeDecoder
from edge_sdk.export.quantise.sequences import Sequence as Tokens
from edge_sdk.export.quantise.stages import decoder_stages
from edge_sdk.export.quantise.statistics import Clip
from edge_sdk.export.stage_store import OnBytes, Stage, StageStore
from edge_sdk.files import sha256_of, write_bytes

LEAST_CLIPS = 8
# One clip in this many is held out of training, to measure the gain on.
_KEPT_SHARE = 8
# Embeddings of one token as stored, with its position and branch.
_ROWS_A_CLIP = 10_000
_LORA, _TOLD = "lora.safetensors", "recovered.json"


def check_recovery(plan: QuantisedPlan, clips: Sequence[tuple[Path, Clip]]) -> None:
    """Raise `ConfigError` for a plan without LoRA inputs, and for too few clips."""
    if BASE not in plan.decoders or not plan.decoders[BASE].lora_rank:
        raise ConfigError(
            "this recipe trains LoRA inputs beside the rounded base, and the bundle would have none; give adapters "
            "with --adapter and --switchable, or take a recipe without [recover]"
        )
    if len(clips) < LEAST_CLIPS:
        raise ConfigError(
            f"this recipe trains LoRA inputs on answers about clips and needs at least {LEAST_CLIPS} of them, found "
            f"{len(clips)}; give a folder of more with --clips, hundreds if you can"
        )


def recover(
    plan: QuantisedPlan,
    stages: Sequence[Stage],
    clips: Sequence[tuple[Path, Clip]],
    store: StageStore,
    quiet: bool,
) -> dict[str, RecoveredLora]:
    """Train the LoRA inputs of every adapter of `plan` on `clips`; what is finished in `store` is not done again.

    Raises `SourceError` for a clip that cannot be decoded, `ConfigError` for a full disk.
    """
    return _Run(plan, stages, clips, store, quiet).run()


class _Run:
    def __init__(
        self,
        plan: QuantisedPlan,
        stages: Sequence[Stage],
        clips: Sequence[tuple[Path, Clip]],
        store: StageStore,
        quiet: bool,
    ) -> None:
        self._plan, self._stages, self._clips, self._store, self._quiet = plan, stages, clips, store, quiet
        self._recover = plan.quantise.recover or Recover()
        told = [(clip.crash, *clip.condition.split()) for _, clip in clips]
        self._kept = frozenset(spread(told, max(1, len(clips) // _KEPT_SHARE)))

    def run(self) -> dict[str, RecoveredLora]:
        weights = stored_decoders(self._plan, self._stages, self._store, self._quiet)[BASE]
        folders = self._lessons()
        made = {name: self._adapter_stage(name, weights, folders) for name in self._plan.adapters}
        found = {}
        for name, stage in made.items():
            if self._store.receipt(stage) is None:
                self._store.make(stage, lambda done: None)
                self._state(name).unlink(missing_ok=True)
            place = self._store.place(stage)
            told = msgspec.json.decode((place / _TOLD).read_bytes(), type=Recovered)
            found[name] = RecoveredLora(place / _LORA, sha256_of(place / _LORA), told)
        return found

    def _lessons(self) -> list[Path]:
        """The folders with each clip's lessons; missing ones are made."""
        text = next(stage for stage in self._stages if stage.name == TEXT_STAGE)
        if self._store.receipt(text) is None:
            self._store.make(text, lambda done: None)
        answering = _Answering(self._plan, self._store.place(text), self._recover)
        stages = [self._clip_stage(path, clip, answering) for path, clip in self._clips]
        with Progress("recover: clips", quiet=self._quiet) as progress:
            for number, stage in enumerate(stages):
                if self._store.receipt(stage) is None:
                    self._store.make(stage, lambda done: None)
                progress(number + 1, len(stages), self._clips[number][1].name)
        return [self._store.place(stage) for stage in stages]

    def _clip_stage(self, path: Path, clip: Clip, answering: _Answering) -> Stage:
        def make(draft: Path, on_bytes: OnBytes) -> None:
            answering.write(path, draft)

        # Lessons depend on the exact model's weights, adapters and questions, and not on what was rounded.
        parts = {each.name: each.inputs for each in self._stages if each.name in self._exact_parts()}
        ways = {"clip": clip.sha256, "answer_tokens": self._recover.answer_tokens, "device": self._device_name}
        ways |= self._seen
        size = _ROWS_A_CLIP * self._plan.checkpoint.config.text.hidden * 4 * len(self._plan.adapters)
        return Stage(f"recover.clip.{clip.sha256[:16]}", parts | quantise_code() | ways, size, make)

    def _exact_parts(self) -> set[str]:
        names = [VISION, TEXT_STAGE]
        return {*names, *(f"{part}.{name}" for part in ("projector", "lora") for name in self._plan.adapters)}

    def _adapter_stage(self, name: str, weights: Weights, folders: Sequence[Path]) -> Stage:
        parts: Inputs = {each.name: each.inputs for each in decoder_stages(self._stages, self._plan)}
        parts |= {each.name: each.inputs for each in self._stages if each.name in self._exact_parts()}
        ways = {"recover": msgspec.to_builtins(self._recover), "device": self._device_name} | self._seen
        inputs = parts | quantise_code() | ways | {"clips": [clip.sha256 for _, clip in self._clips]}
        identity = hashlib.sha256(msgspec.json.encode(inputs, order="deterministic")).hexdigest()

        def make(draft: Path, on_bytes: OnBytes) -> None:
            lessons = [folder / f"{name}.safetensors" for folder in folders]
            pairs, told = self._trained(name, weights, lessons, identity)
            save_pairs(pairs, draft / _LORA)
            write_bytes(draft / _TOLD, msgspec.json.encode(told))

        size = 4 * sum(matrix.numel() for layer in self._begun(name) for pair in layer.values() for matrix in pair)
        return Stage(f"recovered.{name}", inputs, size, make)

    def _trained(
        self, name: str, weights: Weights, lessons: Sequence[Path], identity: str
    ) -> tuple[LayerPairs, Recovered]:
        kept = [path for number, path in enumerate(lessons) if number in self._kept]
        taught = [path for number, path in enumerate(lessons) if number not in self._kept]
        exact, device = self._plan.checkpoint, self._plan.device
        head = exact.tensor(source_name(exact, HEAD)).to(device).float()
        recovery, begun = Recovery(WholeDecoder(weights, device), head, self._recover), self._begun(name)
        before = recovery.change(begun, kept)
        with Progress(f"recover: {name}, steps", quiet=self._quiet) as progress:

            def on_step(done: int, loss: float) -> None:
                progress(done, self._recover.steps)

            found = recovery.run(begun, taught, self._state(name), identity, on_step)
        after = recovery.change(found, kept)
        better = after.mean_kl < before.mean_kl
        told = Recovered(
            clips=len(taught),
            kept_out=len(kept),
            steps=self._recover.steps,
            batch=self._recover.batch,
            rate=self._recover.rate,
            seed=self._recover.seed,
            before=before,
            after=after,
            taken=better,
        )
        return (found if better else begun), told

    @property
    def _seen(self) -> Inputs:
        return seen_through(self._plan.component(), lessons_profile(self._plan))

    def _begun(self, name: str) -> list[dict[str, tuple[Tensor, Tensor]]]:
        adapter = self._plan.adapters[name]
        return [lora_pairs(adapter, layer) for layer in range(self._plan.checkpoint.config.text.layers)]

    def _state(self, name: str) -> Path:
        """Path of the state from which training resumes."""
        return self._store.folder / f"recover.{name}.pt"

    @property
    def _device_name(self) -> str:
        return device_name(self._plan.device)


def lessons_profile(plan: QuantisedPlan) -> str:
    """The vision profile in which lessons show their clips."""
    return plan.recipe.profiles[0]


class _Answering:
    """Make clips' lessons; the exact decoder is only loaded when a lesson is missing."""

    def __init__(self, plan: QuantisedPlan, text: Path, recover: Recover) -> None:
        self._plan, self._recover = plan, recover
        self._reader = ClipReader(plan, text, lessons_profile(plan), None, plan.device)

    def write(self, clip: Path, folder: Path) -> None:
        """Write to `folder` a lesson on `clip` for each adapter of the plan."""
        seen = folder / "seen"
        seen.mkdir()
        self._reader.write(clip, seen)
        for name in self._plan.adapters:
            asked = Tokens.load(seen / sequence_file(name))
            self._teacher.lesson(asked, self._loras[name]).save(folder / f"{name}.safetensors")
        shutil.rmtree(seen)

    @cached_property
    def _teacher(self) -> Teacher:
        plan = self._plan
        return Teacher(
            plan.methods[BASE].weights, plan.device, plan.component().end_tokens, self._recover.answer_tokens
        )

    @cached_property
    def _loras(self) -> dict[str, LayerPairs]:
        layers, device = range(self._plan.checkpoint.config.text.layers), self._plan.device
        return {
            name: [lora_pairs(adapter, layer, device) for layer in layers]
            for name, adapter in self._plan.adapters.items()
        }
