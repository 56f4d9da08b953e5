"""The students of a cross-validation as one scorer: each sample is scored by the student not trained on its clip."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_sdk.bundle import Bundle
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.evaluation import ClipScores
from edge_sdk.evaluation.folds import FILE_NAME, fold_bundle, read_folds
from edge_sdk.evaluation.protocol import clip_stem
from edge_sdk.evaluation.student import StudentScorer


class FoldScorer:
    """Score with the bundles in a folder written by `export.distil.folds`. Raises `ConfigError` for another folder."""

    def __init__(self, folder: Path) -> None:
        folds = read_folds(folder)
        self._folder, self._folds, self._count = folder, folds.clips, folds.count
        self._scorers: dict[int, StudentScorer] = {}

    def check(self, clips: Sequence[LabelledClip], folds: Mapping[str, int]) -> None:
        """Raise `ConfigError` unless every clip's group has the same fold here as in `folds`.

        Otherwise a sample's surroundings, taken from its own fold, might be clips that its student was trained on.
        """
        for clip in clips:
            here = self._folds.get(clip.path.stem)
            if here != folds[clip.group]:
                raise ConfigError(
                    f"{self._folder} was made with other folds: {clip.path.stem} is in {here} there and in "
                    f"{folds[clip.group]} of --count {max(folds.values()) + 1} here; give the --count and the labels "
                    "that the folds were made with"
                )

    def identity(self) -> str:
        """A digest of the clips' folds and of every fold's bundle. Raises `BundleError` where a bundle is missing."""
        digest = hashlib.sha256((self._folder / FILE_NAME).read_bytes())
        for fold in range(self._count):
            digest.update(Bundle.open(fold_bundle(self._folder, fold)).sha256.encode())
        return digest.hexdigest()

    def __call__(self, path: Path) -> ClipScores:
        """Score the sample at `path`, whose name begins with its clip's. Raises `ConfigError` for an unknown clip."""
        clip = clip_stem(path)
        if clip not in self._folds:
            raise ConfigError(f"{self._folder} has no fold for the clip {clip!r}; make folds from these clips")
        fold = self._folds[clip]
        if fold not in self._scorers:
            self._scorers[fold] = StudentScorer(Bundle.open(fold_bundle(self._folder, fold)))
        return self._scorers[fold](path)
