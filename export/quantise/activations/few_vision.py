"""The vision tower as quantised by a recipe: its file, its graphs, and the model that they represent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from edge_sdk.bundle.manifest_language import Number
from edge_sdk.bundle.proof import VISION, MatrixError
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.graphs.onnx_graph import ModelGraph
from edge_sdk.export.quantise.activations.inputs import with_rounded_inputs
from edge_sdk.export.quantise.activations.vision_statistics import read_maxima
from edge_sdk.export.quantise.activations.vision_weights import SmoothVision, vision_file, vision_matrices
from edge_sdk.export.quantise.evidence import matrix_error
from edge_sdk.export.quantise.recipe import QuantiseRecipe
from edge_sdk.export.quantise.restored_weights import RestoredWeights
from edge_sdk.export.quantise.rewrite import with_stored
from edge_sdk.export.quantise.statistics import Statistics
from edge_sdk.types import DType

_AS_IT_IS = 16


class FewVision:
    """The tower of `checkpoint`, quantised as the recipe says; inputs that are rounded are smoothed first."""

    def __init__(
        self, checkpoint: Weights, recipe: QuantiseRecipe, statistics: Statistics | None, dtype: DType
    ) -> None:
        """Raises `ConfigError` where blocks do not fill a matrix, or without statistics that the recipe needs."""
        form, matrices = recipe.vision.format(), vision_matrices(checkpoint.config.vision.layers)
        rounded = recipe.vision.activations < _AS_IT_IS
        maxima = read_maxima(statistics.folder) if rounded and statistics else None
        self._weights = SmoothVision(checkpoint, maxima, recipe.migration if rounded else None)
        self._formats = dict.fromkeys(matrices, form) if form else {}
        self._rounded: dict[str, Number] = dict.fromkeys(matrices, recipe.vision.number) if rounded else {}
        self.file = vision_file(self._weights, self._formats, self._rounded, dtype)

    def graph(self, plain: ModelGraph) -> ModelGraph:
        """Rewrite a graph of the tower so that it reads the quantised file."""
        places = self.file.places
        return with_rounded_inputs(with_stored(plain, places, self._formats), places, self._rounded)

    def matrix_errors(self, stored: Weights) -> Iterator[MatrixError]:
        """The error of every quantised matrix in the model `stored`, which has the tower as stored.

        It is relative to the smoothed weights, which compute what the checkpoint's compute. Calibration keeps no grams
        of the tower's inputs, so the error is that of the weights.
        """
        for name, form in self._formats.items():
            yield matrix_error(VISION, name, form, self._weights, stored, None)

    def restored(self, weights: Weights, folders: Mapping[str, Path]) -> Weights:
        """`weights` with the tower stored in `folders`, which maps its file's location to a folder."""
        return RestoredWeights(weights, self.file.places, self._formats, folders, self._rounded)
