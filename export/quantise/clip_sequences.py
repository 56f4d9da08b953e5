"""Turn a clip's pictures into the decoder's inputs, with the device's own sampling, pictures and prompt, in float32."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_sdk.bundle.manifest_language import Language, VisionProfile
from edge_sdk.errors import ConfigError
from edge_sdk.explaining.sampling import plan_clip, read_clip
from edge_sdk.export.adapters import Merged
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.device import CPU
from edge_sdk.export.eager import embedding_rows, encode, project
from edge_sdk.export.graphs.vision import Grid
from edge_sdk.export.language_plan import LanguagePlan
from edge_sdk.export.quantise.activations.vision_statistics import FILE as VISION
from edge_sdk.export.quantise.activations.vision_statistics import VisionMaxima
from edge_sdk.export.quantise.probe_pictures import PICTURES, Pictures
from edge_sdk.export.quantise.sequences import Sequence
from edge_sdk.reasoning.grid import FrameSize
from edge_sdk.reasoning.prompt import Prompt, kept_frame
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.reasoning.vision_input import VisionInput


class ClipReader:
    """Make sequences from clips; `folder` holds the tokenizer and the prompts at their paths in a bundle.

    `frames` is the most frames taken from a clip, None for the profile's number. The vision tower and projectors
    compute on `device`.
    """

    def __init__(
        self, plan: LanguagePlan, folder: Path, profile: str, frames: int | None, device: torch.device = CPU
    ) -> None:
        """Raises `ConfigError` for a profile that the plan does not have."""
        self._plan, self._language, self._device = plan, plan.component(), device
        chosen = _profile(self._language, profile)
        self._profile: VisionProfile = msgspec.structs.replace(
            chosen, frames=min(frames or chosen.frames, chosen.frames)
        )
        self._prompt = Prompt(Tokenizer.open(folder / self._language.tokenizer))
        self._asked = json.loads((folder / self._language.prompts).read_text(encoding="utf-8"))

    def write(self, clip: Path, folder: Path) -> None:
        """Write to `folder` a file for each adapter, one of the vision tower's maxima, and one of the tower's inputs.

        Raises `ConfigError` for a clip without pictures, and as `open_source`.
        """
        shown = list(read_clip(clip, plan_clip(clip, self._profile)))
        if not shown:
            raise ConfigError(f"{clip}: expected pictures, found none; take it out of the folder")
        language, profile = self._language, self._profile
        size = FrameSize(width=profile.width, height=profile.height)
        see = VisionInput(size, patch=language.patch, mean=language.pixel_mean, std=language.pixel_std, dtype="float32")
        keeper, raw = see.keeper(language.compression), [see.from_rgb(each.pixels) for each in shown]
        keep = np.stack([keeper.push(patches) for patches in raw])
        grid = Grid(rows=profile.height // language.patch, columns=profile.width // language.patch)
        patches = np.stack([see.normalised(patches) for patches in raw]).astype(np.float32)
        pictures = torch.from_numpy(patches).to(self._device)
        maxima = VisionMaxima()
        (tokens,) = encode(self._plan.checkpoint, [(grid, pictures)], lambda: None, maxima.watch)
        maxima.save(folder / VISION)
        kept = tokens[torch.from_numpy(keep).to(self._device)]
        frames = [kept_frame(each.time_s, kept) for each, kept in zip(shown, keep, strict=True)]
        ids = [self._prompt.header(), *(self._prompt.frame(f, first=n == 0) for n, f in enumerate(frames))]
        for name in language.adapters:
            self._sequence(name, np.concatenate(ids), kept).save(folder / sequence_file(name))
        Pictures(
            patches=torch.from_numpy(np.stack(raw)),
            size=torch.tensor([grid.rows, grid.columns]),
            keep=torch.from_numpy(keep),
            places=torch.from_numpy(np.flatnonzero(np.concatenate(ids) == language.image_token)),
            tokens=kept.cpu(),
        ).save(folder / PICTURES)

    def _sequence(self, name: str, prefix: NDArray[np.int64], tokens: Tensor) -> Sequence:
        checkpoint = self._plan.checkpoint
        adapter = self._plan.adapters.get(name)
        tuned: Weights = Merged(checkpoint, adapter) if adapter else checkpoint
        embeds = embedding_rows(checkpoint, prefix)
        embeds[torch.from_numpy(prefix == self._language.image_token)] = project(tuned, [tokens])[0].cpu()
        asked: Mapping[str, Mapping[str, list[int]]] = self._asked
        tasks = self._language.adapters[name].tasks
        questions = [embedding_rows(checkpoint, np.array(asked[task]["ids"], np.int64)) for task in tasks]
        return Sequence.of(embeds, questions)


# Any: JSON values, which go into a stage's inputs.
def seen_through(language: Language, profile: str) -> dict[str, Any]:
    """All settings, apart from weights and text, of how the tower gets a clip's pictures. Raises `ConfigError`."""
    chosen = _profile(language, profile)
    return {
        "pictures": {
            "frames": chosen.frames,
            "rate_hz": chosen.rate_hz,
            "size": [chosen.width, chosen.height],
            "mean": language.pixel_mean,
            "std": language.pixel_std,
            "compression": msgspec.to_builtins(language.compression),
        }
    }


def _profile(language: Language, name: str) -> VisionProfile:
    if name not in language.profiles:
        raise ConfigError(f"profile {name!r} is not among {', '.join(language.profiles)}; give one of them")
    return language.profiles[name]


def sequence_file(adapter: str) -> str:
    """Name of a clip's file for an adapter."""
    return f"{adapter}.safetensors"
