"""Statistics of a decoder's activations in a calibration: sums over tokens, so that calibrations can be added up.

A file for each layer holds, for every group of linears that share their inputs: the gram XᵀX, from which AWQ's cost and
GPTQ's corrections are computed, the sum of |x|, and the largest |x|. Everything is float32.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from edge_sdk.errors import ConfigError
from edge_sdk.export.device import CPU
from edge_sdk.export.model_config import TextConfig
from edge_sdk.export.quantise.activations.vision_statistics import FILE as VISION
from edge_sdk.export.quantise.activations.vision_statistics import merge_maxima
from edge_sdk.export.quantise.identity import Identity
from edge_sdk.files import atomic_folder, write_json
from edge_sdk.types import Value

INDEX, SCHEMA = "statistics.json", 1
GROUPS = ("qkv", "o", "mlp", "down")


class Clip(Value, frozen=True, kw_only=True):
    """One clip of a calibration: its file's name and SHA-256, and the facts of its label, None without a label."""

    name: str
    sha256: str
    crash: bool | None = None
    condition: str = ""


class Index(Value, frozen=True, kw_only=True):
    """Origin of the statistics: the model's name and shape, `tokens` by decoder, and the clips.

    `probes` are clips whose sequences are kept, to compare models on; `held_out`: none of them is among `clips`.
    `device` is the device that computed, or several where statistics were added up. `weights` and `adapters` are
    digests of the calibrated model, see `identity`; without them only shapes show whether a model is the same.
    """

    schema: int = SCHEMA
    model: str
    layers: int
    hidden: int
    intermediate: int
    tokens: dict[str, int]
    clips: tuple[Clip, ...]
    probes: tuple[Clip, ...] = ()
    held_out: bool = False
    device: str = "cpu"
    weights: str = ""
    adapters: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def identity(self) -> Identity:
        """The model that the statistics belong to."""
        return Identity(model=self.model, weights=self.weights, adapters=self.adapters)


class Group(NamedTuple):
    """Statistics of one group: `gram [n, n]`, `magnitude [n]` (the mean of |x|), and `largest [n]` (of |x|)."""

    gram: Tensor
    magnitude: Tensor
    largest: Tensor


def widths(text: TextConfig) -> dict[str, int]:
    """Number of inputs of each group."""
    return {"qkv": text.hidden, "o": text.heads * text.head_dim, "mlp": text.hidden, "down": text.intermediate}


class Sums:
    """Accumulator for the sums of one layer's groups."""

    def __init__(self, text: TextConfig, device: torch.device = CPU) -> None:
        """Start with zeros; the sums stay on `device` until they are saved."""
        self._held: dict[str, Tensor] = {}
        for group, width in widths(text).items():
            self._held[f"{group}.gram"] = torch.zeros(width, width, device=device)
            self._held[f"{group}.magnitude"] = torch.zeros(width, device=device)
            self._held[f"{group}.largest"] = torch.zeros(width, device=device)

    def add(self, group: str, x: Tensor) -> None:
        """Add the inputs `x [tokens, n]` of a group."""
        rows, held = x.float(), self._held
        held[f"{group}.gram"].addmm_(rows.T, rows)
        held[f"{group}.magnitude"] += rows.abs().sum(0)
        held[f"{group}.largest"] = torch.maximum(held[f"{group}.largest"], rows.abs().amax(0))

    def save(self, path: Path) -> None:
        """Write the sums to `path`. Raises `ConfigError` for NaN or infinity."""
        for name, tensor in self._held.items():
            if not bool(torch.isfinite(tensor).all()):
                raise ConfigError(
                    f"{path.name}: {name} is not finite: the model gave NaN or infinity for a clip; check the "
                    "checkpoint with edge-sdk export and verify, and the clips"
                )
        save_file({name: tensor.cpu() for name, tensor in self._held.items()}, path)


class Statistics:
    """The statistics in a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises `ConfigError` for a folder without readable statistics."""
        self.folder = folder
        try:
            self.index = msgspec.json.decode((folder / INDEX).read_bytes(), type=Index)
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigError(
                f"{folder}: expected what edge-sdk calibrate writes, found none ({error}); calibrate first"
            ) from error

    def identity(self) -> dict[str, list[int]]:
        """Fingerprint of the files without reading them: sizes and modification times."""
        return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(self.folder.iterdir())}

    def check(self, text: TextConfig, decoder_of: Mapping[str, str], given: Callable[[], Identity]) -> None:
        """Raise `ConfigError` unless the statistics are of the model `given`, of its shape `text`, and of its adapters.

        `decoder_of` maps each adapter to its decoder; `given` is only called if the shape is right.
        """
        expected, found = ((each.layers, each.hidden, each.intermediate) for each in (text, self.index))
        if expected != found:
            raise ConfigError(
                f"{self.folder}: expected statistics of {expected[0]} layers, hidden {expected[1]}, intermediate "
                f"{expected[2]}, found {found[0]}, {found[1]}, {found[2]}; calibrate with this checkpoint"
            )
        if missing := set(decoder_of.values()) - self.index.tokens.keys():
            raise ConfigError(
                f"{self.folder}: expected statistics of decoder {', '.join(sorted(missing))}, found "
                f"{', '.join(self.index.tokens)}; calibrate with the same --adapter and --merge or --switchable"
            )
        if self.index.identity.known:
            self.index.identity.check(given(), self.folder)
        self._check_probes(decoder_of)

    def _check_probes(self, adapters: Iterable[str]) -> None:
        wanted = [probe_file(number, name) for number in range(len(self.index.probes)) for name in adapters]
        if missing := [name for name in wanted if not (self.folder / name).is_file()]:
            raise ConfigError(
                f"{self.folder}: expected {missing[0]}, a clip that was kept out as this adapter sees it, and "
                f"{len(missing) - 1} more such files, but they are not there; give the adapters that were calibrated, "
                "or calibrate with these"
            )

    def group(self, decoder: str, layer: int, group: str) -> Group:
        """One group. Raises `ConfigError` for a file that is missing, damaged, or holds NaN or infinity."""
        (gram,) = self._read(decoder, layer, group, "gram")
        return Group(gram, *self.channels(decoder, layer, group))

    def channels(self, decoder: str, layer: int, group: str) -> tuple[Tensor, Tensor]:
        """`magnitude` and `largest` of one group, without its gram. Raises as `group`."""
        magnitude, largest = self._read(decoder, layer, group, "magnitude", "largest")
        return magnitude / max(1, self.index.tokens[decoder]), largest

    def _read(self, decoder: str, layer: int, group: str, *parts: str) -> list[Tensor]:
        path = self.folder / layer_file(decoder, layer)
        try:
            with safe_open(path, framework="pt") as held:
                found = [held.get_tensor(f"{group}.{part}") for part in parts]
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{path}: expected a layer's statistics, found {error}; calibrate again") from error
        if not all(bool(torch.isfinite(each).all()) for each in found):
            raise ConfigError(f"{path}: {group} holds NaN or infinity; calibrate again")
        return found


def layer_file(decoder: str, layer: int) -> str:
    """Name of a layer's file."""
    return f"{decoder}.{layer:02}.safetensors"


def probe_file(number: int, adapter: str) -> str:
    """Name of the file with a probe's sequence for an adapter."""
    return f"probe.{number:02}.{adapter}.safetensors"


def check_addable(first: Index, others: Sequence[Statistics]) -> None:
    """Raise `ConfigError` unless `others` are of the model and adapters of `first`, and no clip is in two of them."""
    for part in others:
        for key in ("model", "layers", "hidden", "intermediate"):
            if getattr(part.index, key) != getattr(first, key):
                raise ConfigError(
                    f"{part.folder}: expected statistics of {key} {getattr(first, key)}, found "
                    f"{getattr(part.index, key)}; merge statistics of one model only"
                )
        if part.index.tokens.keys() != first.tokens.keys():
            raise ConfigError(
                f"{part.folder}: expected decoders {', '.join(first.tokens)}; merge statistics of the same adapters"
            )
        part.index.identity.check(first.identity, part.folder)
    seen = [clip.sha256 for index in (first, *(part.index for part in others)) for clip in index.clips]
    if len(set(seen)) != len(seen):
        raise ConfigError("a clip is in several of these statistics and would count twice; merge disjoint ones")


def merge_statistics(folders: Sequence[Path], out: Path) -> Index:
    """Add up statistics of the same model in `folders` and write them to `out`, with the probes of the first folder.

    Raises `ConfigError` for statistics of different models, for a clip that is in several, or when `out` exists.
    """
    parts = [Statistics(folder) for folder in folders]
    first = parts[0].index
    check_addable(first, parts[1:])
    clips = [clip for part in parts for clip in part.index.clips]
    tokens = {key: sum(part.index.tokens[key] for part in parts) for key in first.tokens}
    seen = {clip.sha256 for clip in clips}
    held_out = first.held_out and seen.isdisjoint(clip.sha256 for clip in first.probes)
    devices = " and ".join(dict.fromkeys(part.index.device for part in parts))
    # The identity of a sum is known only if the identity of every part is known.
    known = all(part.index.identity.known for part in parts)
    told = {"weights": first.weights, "adapters": first.adapters} if known else {"weights": "", "adapters": {}}
    index = msgspec.structs.replace(first, tokens=tokens, clips=tuple(clips), held_out=held_out, device=devices, **told)
    with atomic_folder(out) as draft:
        merge_maxima([part.folder / VISION for part in parts], draft / VISION)
        for path in parts[0].folder.glob("probe.*.safetensors"):
            shutil.copyfile(path, draft / path.name)
        for decoder in first.tokens:
            for layer in range(first.layers):
                name = layer_file(decoder, layer)
                save_file(_added([load_file(part.folder / name) for part in parts]), draft / name)
        write_index(draft, index)
    return index


def write_index(folder: Path, index: Index) -> None:
    """Write the index of a folder."""
    write_json(folder / INDEX, index)


def _added(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    found = dict(parts[0])
    for part in parts[1:]:
        for name, tensor in part.items():
            found[name] = torch.maximum(found[name], tensor) if name.endswith("largest") else found[name] + tensor
    return found
