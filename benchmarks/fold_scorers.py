"""The students of a cross-validation as one scorer: each sample is judged by the student that has not seen its clip."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.bundle import Bundle
from edge_sdk.errors import ConfigError
from edge_sdk.evaluation import ClipScores
from edge_sdk.evaluation.folds import fold_bundle, read_folds
from edge_sdk.evaluation.student import StudentScorer


class FoldScorer:
    """Scores with the bundles of a folder that `export.distil.folds` wrote. Raises `ConfigError` without one."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._folds = folder, read_folds(folder).clips
        self._scorers: dict[int, StudentScorer] = {}

    def __call__(self, path: Path) -> ClipScores:
        """Score the sample at `path`, whose name begins with its clip's. Raises `ConfigError` for an unknown clip."""
        clip = path.name.split(".")[0]
        if clip not in self._folds:
            raise ConfigError(f"{self._folder} says nothing of the clip {clip!r}; make folds of these very clips")
        fold = self._folds[clip]
        if fold not in self._scorers:
            self._scorers[fold] = StudentScorer(Bundle.open(fold_bundle(self._folder, fold)))
        return self._scorers[fold](path)
