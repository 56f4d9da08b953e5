"""Write a bundle's `reference/`: seeded inputs and float32 outputs of every graph, and an answer of every adapter.

Tolerances limit max |a - b| / max |b|. Errors of the worst graph in either dialect, measured with ONNX Runtime 1.32 on
an x86 CPU and random weights: float32 1e-6 (2 layers of a tiny model) and 2e-6 (4 layers of the 2B's width), float16
2.5e-3 (the same tiny model) and 2e-3 (14 layers of the 2B's width). Answers are closer. The tolerances leave room
because error grows with depth and each GPU sums float16 in its own way. Weights in the wrong order or of the wrong
adapter change a tiny model's answers by 0.15 to 1.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_sdk.bundle.manifest import Graph, ReferenceCase
from edge_sdk.bundle.manifest_language import ChainReference, Language
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.exported import Exported
from edge_sdk.export.measure import Answer, Measured, OnProgress, measure
from edge_sdk.export.seeded_cases import Values
from edge_sdk.files import write_bytes
from edge_sdk.types import DType
from edge_sdk.verify.reference_files import MAX_REFERENCE_BYTES, chain_bytes, reference_bytes

SEED = 20_251_230
# Tolerances for a graph's outputs and an answer's logits, by the graphs' element type.
TOLERANCES: dict[DType, float] = {"float32": 1e-4, "float16": 2e-2}
# Part of a file's size that is reserved for names, shapes and other uncounted data.
_HEADER_BYTES = 20_000
_AS_IT_IS = 16


@dataclass(frozen=True)
class References:
    """The manifest's entries for the reference files, by graph and by adapter."""

    graphs: dict[str, ReferenceCase]
    chains: dict[str, ChainReference]

    def apply(self, graphs: Mapping[str, Graph], language: Language) -> tuple[dict[str, Graph], Language]:
        """Return `graphs` and `language` with these references."""
        replace = msgspec.structs.replace
        adapters = {
            name: replace(adapter, reference=self.chains.get(name)) for name, adapter in language.adapters.items()
        }
        cases = {name: replace(graph, reference=self.graphs.get(name)) for name, graph in graphs.items()}
        return cases, replace(language, adapters=adapters)


def write_references(weights: Weights, exported: Exported, folder: Path, on_progress: OnProgress) -> References:
    """Compute and write a file for every graph and every adapter of `exported` below `folder / "reference"`.

    `on_progress` is called with the layers done, the layers in all, and the part. Raises
    `CheckpointError` for a tensor with NaN or infinity, and `ConfigError` for a picture too large for a reference file.
    """
    return write_measured(measure(weights, exported, SEED, on_progress), exported, folder)


def write_measured(measured: Measured, exported: Exported, folder: Path, tolerance: float | None = None) -> References:
    """Write what was measured, as `write_references` does.

    `tolerance` replaces the element type's own for the decoders, for a vision tower that rounds its inputs, and for the
    answers.
    """
    usual = TOLERANCES[exported.language.dtype]
    own = {each.graph for decoder in exported.language.decoders.values() for each in decoder.graphs}
    few = exported.language.quantisation
    if few and few.vision_activation_bits < _AS_IT_IS:
        own |= {graph for profile in exported.language.profiles.values() for graph in profile.graphs.values()}
    limits = dict.fromkeys(own, tolerance or usual)
    graphs = {
        name: _write_case(folder, name, values, limits.get(name, usual)) for name, values in measured.graphs.items()
    }
    chains = {name: _write_chain(folder, name, answer, tolerance or usual) for name, answer in measured.answers.items()}
    return References(graphs, chains)


def _write_case(folder: Path, name: str, values: Values, tolerance: float) -> ReferenceCase:
    file = f"reference/{name}.safetensors"
    outputs = dict(values.outputs)
    if (
        sum(array.nbytes for array in (*values.inputs.values(), *outputs.values()))
        > MAX_REFERENCE_BYTES - _HEADER_BYTES
    ):
        # The cache outputs, thousands of slots, are left out: errors in them show in the answers.
        outputs = {output: outputs[output] for output in outputs if output in ("tokens", "embeds", "logits")}
    write_bytes(folder / file, reference_bytes(values.inputs, outputs))
    return ReferenceCase(file=file, inputs_from=values.inputs_from, max_relative_error=tolerance)


def _write_chain(folder: Path, name: str, answer: Answer, tolerance: float) -> ChainReference:
    file = f"reference/chain.{name}.safetensors"
    write_bytes(folder / file, chain_bytes(answer.case))
    return ChainReference(file=file, profile=answer.profile, max_relative_error=tolerance)
