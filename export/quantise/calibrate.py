"""Collect statistics of a decoder's activations on clips: sequences clip by clip, then layer by layer, as stages."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
import torch
from safetensors import safe_open

from edge_sdk.balance import spread
from edge_sdk.console import Progress, warn
from edge_sdk.export.adapters import Merged
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.code_digest import quantise_code
from edge_sdk.export.device import CPU, device_name
from edge_sdk.export.export_recipe import Order
from edge_sdk.export.language_plan import LanguagePlan
from edge_sdk.export.language_stages import TEXT_STAGE, Inputs, language_stages
from edge_sdk.export.pipeline import open_plan
from edge_sdk.export.quantise.activations.vision_statistics import FILE as VISION
from edge_sdk.export.quantise.activations.vision_statistics import merge_maxima
from edge_sdk.export.quantise.answers import Answering
from edge_sdk.export.quantise.calibrate_needs import PART, check_folders, check_room, take_over
from edge_sdk.export.quantise.clip_sequences import ClipReader, seen_through, sequence_file
from edge_sdk.export.quantise.collect import Collection, Source
from edge_sdk.export.quantise.identity import identity_of
from edge_sdk.export.quantise.plan import part_name
from edge_sdk.export.quantise.probe_pictures import PICTURES, pictures_file
from edge_sdk.export.quantise.statistics import (
    Clip,
    Index,
    Statistics,
    check_addable,
    layer_file,
    merge_statistics,
    probe_file,
    write_index,
)
from edge_sdk.export.stage_store import OnBytes, Stage, StageStore
from edge_sdk.files import atomic_folder

# Embeddings of one token as stored, with its position and branch.
_TOKENS_A_CLIP = 10_000
# One clip in `_PROBE_SHARE` is held out of the statistics, to compare models on, and at most `MOST_PROBES` clips.
_PROBE_SHARE, MOST_PROBES = 4, 8


def run_calibration(
    order: Order,
    clips: Sequence[tuple[Path, Clip]],
    out: Path,
    *,
    profile: str | None = None,
    frames: int | None = None,
    work: Path | None = None,
    add: Sequence[Path] = (),
    device: torch.device = CPU,
    quiet: bool = False,
) -> Index:
    """Write the statistics of `clips` to `out`; see `edge_sdk.toolchain.calibrating.calibrate`."""
    calibration = Calibration(order, clips, profile or order.recipe.profiles[0], frames, quiet, device)
    return calibration.run(out, work or out.with_name(f"{out.name}.work"), add)


class Calibration:
    """One run: `clips` with their files, at most `frames` of each in `profile`. Layers compute on `device`."""

    def __init__(
        self,
        order: Order,
        clips: Sequence[tuple[Path, Clip]],
        profile: str,
        frames: int | None,
        quiet: bool,
        device: torch.device = CPU,
    ) -> None:
        self._plan = open_plan(order, LanguagePlan)
        stages = {stage.name: stage for stage in language_stages(order, self._plan)}
        self._text = stages[TEXT_STAGE]
        # Activations depend on weights, prompts and the adapters beside the weights, but not on graphs.
        parts = {name: each.inputs for name, each in stages.items() if name != "graphs"}
        ways = {"profile": profile, "frames": frames, "device": device_name(device)}
        self._inputs: Inputs = parts | quantise_code() | ways | seen_through(self._plan.component(), profile)
        self._folder = Path(order.checkpoint)
        self._clips, self._profile, self._frames, self._quiet = clips, profile, frames, quiet
        self._device = device

    def run(self, out: Path, work: Path, add: Sequence[Path]) -> Index:
        """Write the statistics to `out`, plus those in `add`. Raises as `toolchain.calibrating.calibrate`."""
        check_folders(out, work)
        begun = self._index()
        self._check_added(begun, add)
        with StageStore.locked(work) as store:
            collections = {key: self._collection(key, {}, begun) for key in self._plan.decoders}
            layers = [stage for each in collections.values() for stage in each.stages(store)]
            check_room(store, layers, out, added=bool(add))
            if store.receipt(self._text) is None:
                store.make(self._text, lambda done: None)
            folders = dict(zip((clip.sha256 for _, clip in self._clips), self._sequences(store), strict=True))
            room = partial(check_room, store, layers, out, added=bool(add))
            index = self._collected(store, folders, begun, work / PART if add else out, room)
            if add:
                index = merge_statistics([work / PART, *add], out)
                shutil.rmtree(work / PART)
            store.clear()
        return index

    def _index(self) -> Index:
        """The index as far as it is known before any token has been computed."""
        plan, clips = self._plan, [clip for _, clip in self._clips]
        text, chosen, held_out = plan.checkpoint.config.text, probe_numbers(clips), probe_count(len(clips)) > 0
        model = plan.component().model
        identity = identity_of(model, self._folder, plan.checkpoint, plan.adapters)
        return Index(
            model=model,
            layers=text.layers,
            hidden=text.hidden,
            intermediate=text.intermediate,
            tokens=dict.fromkeys(plan.decoders, 0),
            clips=tuple(clip for number, clip in enumerate(clips) if not held_out or number not in chosen),
            probes=tuple(clips[number] for number in chosen),
            held_out=held_out,
            device=device_name(self._device),
            weights=identity.weights,
            adapters=identity.adapters,
        )

    def _check_added(self, begun: Index, add: Sequence[Path]) -> None:
        parts = [Statistics(folder) for folder in add]
        check_addable(begun, parts)
        if unknown := [f"{part.folder}" for part in parts if not part.index.identity.known]:
            warn([f"{', '.join(unknown)}: these do not name their weights, so the merged statistics will not either"])

    def _sequences(self, store: StageStore) -> list[Path]:
        reader = ClipReader(self._plan, store.place(self._text), self._profile, self._frames, self._device)
        size = _TOKENS_A_CLIP * self._plan.checkpoint.config.text.hidden * 4 * len(self._plan.projectors)
        folders = []
        with Progress("clips", quiet=self._quiet) as progress:
            for number, (path, clip) in enumerate(self._clips):

                def make(draft: Path, on_bytes: OnBytes, path: Path = path) -> None:
                    reader.write(path, draft)

                stage = Stage(f"clip.{clip.sha256[:16]}", self._inputs | {"clip": clip.sha256}, size, make)
                if store.receipt(stage) is None:
                    store.make(stage, lambda done: None)
                folders.append(store.place(stage))
                progress(number + 1, len(self._clips), clip.name)
        return folders

    def _collected(
        self, store: StageStore, folders: Mapping[str, Path], begun: Index, out: Path, room: Callable[..., None]
    ) -> Index:
        """Write the statistics of the sequences in `folders`, by clip, to `out`. `room` checks the disk."""
        plan, layers, answered = self._plan, dict[str, list[Path]](), dict[str, Path]()
        learnt, probed = ([folders[clip.sha256] for clip in each] for each in (begun.clips, begun.probes))
        sources = {key: self._sources(key, learnt, "{number:05}.{name}") for key in plan.decoders}
        tokens = {key: sum(_tokens(each.path) for each in sources[key].values()) for key in plan.decoders}
        # The states before a layer and those after it are on the disk together.
        room(beside_bytes=2 * 4 * begun.hidden * max(tokens.values()))
        with Progress("layers", quiet=self._quiet) as progress:
            for key in plan.decoders:
                collection = self._collection(key, sources[key], begun)
                layers[key] = collection.run(store, partial(_tell, progress, begun.layers, part_name(key)))
        inputs = self._seen(begun) | {"probes": [each.sha256 for each in begun.probes]}
        with Progress("answers, layers", quiet=self._quiet) as progress:
            for key in plan.decoders:
                asked = self._sources(key, probed, "probe.{number:02}.{name}")
                answered[key] = self._answered(store, key, asked, inputs, progress)
        index = msgspec.structs.replace(begun, tokens=tokens)
        with atomic_folder(out, overwrite=out.parent == store.folder) as draft:
            for key, places in layers.items():
                for layer, place in enumerate(places):
                    take_over(place / layer_file(key, layer), draft / layer_file(key, layer))
            for number, folder in enumerate(probed):
                take_over(folder / PICTURES, draft / pictures_file(number))
                for name, key in plan.decoder_of.items():
                    take_over(answered[key] / probe_file(number, name), draft / probe_file(number, name))
            merge_maxima([folder / VISION for folder in learnt], draft / VISION)
            write_index(draft, index)
        return index

    def _seen(self, begun: Index) -> Inputs:
        return self._inputs | {"clips": [clip.sha256 for clip in begun.clips]}

    def _collection(self, key: str, sources: Mapping[str, Source], begun: Index) -> Collection:
        return Collection(key, self._weights(key), sources, self._seen(begun), self._device)

    def _sources(self, key: str, folders: Sequence[Path], form: str) -> dict[str, Source]:
        """The sequences in `folders` for each adapter of the decoder `key`, named by the format string `form`."""
        plan = self._plan
        users = [name for name, decoder in plan.decoder_of.items() if decoder == key]
        beside = {name: plan.adapters.get(name) if key not in plan.adapters else None for name in users}
        return {
            form.format(number=number, name=name): Source(folder / sequence_file(name), beside[name])
            for number, folder in enumerate(folders)
            for name in users
        }

    def _answered(
        self, store: StageStore, key: str, asked: dict[str, Source], inputs: Inputs, progress: Progress
    ) -> Path:
        """Make the stage with the sequences `asked` of a decoder, extended by their answers; returns its folder."""

        def make(draft: Path, on_bytes: OnBytes) -> None:
            caches = draft / "caches"
            caches.mkdir()
            end = self._plan.component().end_tokens
            answering = Answering(self._weights(key), asked, end, device=self._device)
            answering.write(draft, caches, lambda done, total: progress(done, total, part_name(key)))
            shutil.rmtree(caches)

        text = self._plan.checkpoint.config.text
        cached = 4 * (text.hidden + 2 * text.layers * text.kv_heads * text.head_dim)
        size = sum(source.path.stat().st_size + cached * _tokens(source.path) for source in asked.values())
        stage = Stage(f"answers.{key}", inputs, size, make)
        if store.receipt(stage) is None:
            store.make(stage, lambda done: None)
        return store.place(stage)

    def _weights(self, key: str) -> Weights:
        plan = self._plan
        return Merged(plan.checkpoint, plan.adapters[key]) if key in plan.adapters else plan.checkpoint


def probe_count(clips: int) -> int:
    """How many of `clips` clips are held out: an even number, 0 where too few would be left for the statistics."""
    return min(MOST_PROBES, 2 * (clips // (2 * _PROBE_SHARE)))


def probe_numbers(clips: Sequence[Clip]) -> list[int]:
    """Numbers of the clips to compare models on: the held-out clips, or all clips where none can be held out.

    They are balanced like the list that they come from: both views, and crashes as well as other clips.
    """
    told = [(clip.crash, *clip.condition.split()) for clip in clips]
    return sorted(spread(told, probe_count(len(clips)) or len(clips)))


def _tokens(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        shape: list[int] = file.get_slice("embeds").get_shape()
    return shape[0]


def _tell(progress: Progress, total: int, what: str, done: int) -> None:
    progress(done, total, what)
