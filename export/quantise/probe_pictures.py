"""Pictures of the clips that a calibration keeps, so that a proof can start where a device does: at the vision tower.

The files also hold what is needed to replace a sequence's vision tokens by another tower's tokens for the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from edge_sdk.bundle.manifest_language import Language
from edge_sdk.bundle.proof import TowerError
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.eager import encode, project
from edge_sdk.export.graphs.vision import Grid
from edge_sdk.export.quantise.sequences import Sequence
from edge_sdk.export.quantise.statistics import Statistics, probe_file
from edge_sdk.reasoning.patches import normalised

PICTURES = "pictures.safetensors"
ERRORS = "errors.json"


@dataclass(frozen=True, eq=False)
class Pictures:
    """The tower's inputs for one clip, and where its outputs go.

    `patches [frames, patches, values]` are uint8 on a grid of `size` (rows, columns). The tokens selected by `keep
    [frames, tokens]` become the rows `places [kept]` of a sequence. `tokens [kept, width]` float32 are the outputs of
    the tower with unquantised weights.
    """

    patches: Tensor
    size: Tensor
    keep: Tensor
    places: Tensor
    tokens: Tensor

    def save(self, path: Path) -> None:
        """Write the pictures to `path`."""
        save_file(vars(self), path)

    @classmethod
    def load(cls, path: Path) -> Pictures:
        """Read what `save` has written."""
        return cls(**load_file(path))

    def seen_by(self, tower: Weights, language: Language) -> Tensor:
        """Tokens `[kept, width]` that another tower gives for the same pictures."""
        rows, columns = (int(length) for length in self.size)
        given = torch.from_numpy(normalised(self.patches.numpy(), language.pixel_mean, language.pixel_std))
        return encode(tower, [(Grid(rows=rows, columns=columns), given)], lambda: None)[0][self.keep]


def pictures_file(number: int) -> str:
    """Name of the file with a probe's pictures."""
    return f"probe.{number:02}.safetensors"


def has_pictures(statistics: Statistics) -> bool:
    """Whether there are probes, each with its pictures."""
    names = [pictures_file(number) for number in range(len(statistics.index.probes))]
    return bool(names) and all((statistics.folder / name).is_file() for name in names)


class TowerChange:
    """How another `tower` changes the probes of `statistics`; `tuned` are the weights of each adapter's projector."""

    def __init__(
        self, statistics: Statistics, language: Language, tower: Weights, tuned: Mapping[str, Weights]
    ) -> None:
        self._statistics, self._language, self._tower, self._tuned = statistics, language, tower, tuned

    def write(self, folder: Path, on_clip: Callable[[int], object]) -> TowerError:
        """Write every adapter's sequences with this tower's tokens below `folder`; returns the error of the tower."""
        probes = len(self._statistics.index.probes)
        tokens, embeds = _Sums(), {name: _Sums() for name in self._tuned}
        frames = 0
        for number in range(probes):
            pictures = Pictures.load(self._statistics.folder / pictures_file(number))
            seen = pictures.seen_by(self._tower, self._language)
            tokens.add(seen, pictures.tokens)
            frames += len(pictures.patches)
            for name, weights in self._tuned.items():
                exact = Sequence.load(self._statistics.folder / probe_file(number, name))
                (rows,) = project(weights, [seen])
                embeds[name].add(rows, exact.embeds[pictures.places])
                exact.with_rows(pictures.places, rows).save(folder / probe_file(number, name))
            on_clip(number + 1)
        return TowerError(
            clips=probes,
            frames=frames,
            tokens=tokens.error(),
            embeds={name: each.error() for name, each in embeds.items()},
        )


class _Sums:
    """Sums of squares over parts of one whole."""

    def __init__(self) -> None:
        self._error = self._whole = 0.0

    def add(self, found: Tensor, exact: Tensor) -> None:
        self._error += float((found - exact).double().square().sum())
        self._whole += float(exact.double().square().sum())

    def error(self) -> float:
        """Root mean square of the difference, relative to that of the exact values."""
        return float((self._error / self._whole) ** 0.5) if self._whole > 0 else 0.0
