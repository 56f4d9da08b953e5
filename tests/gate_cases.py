"""The graphs of the gate and their compilation. As a script it writes what the gate finds.

`python tests/gate_cases.py OUT`. The twelve are all that the two sizes have: the tower in both profiles, which the
sizes share, two projectors, and four decoders each, at true widths with two layers.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
import onnx
from measured import table, write_measured
from ort_graphs import RandomWeights

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.export.gate import GateResult, compile_gate, profiles_for, remembered
from edge_sdk.export.graphs.decoder_io import DecoderForm
from edge_sdk.export.graphs.decoder_onnx import decoder_graph
from edge_sdk.export.graphs.onnx_graph import OPSETS, ModelGraph
from edge_sdk.export.graphs.vision import Grid
from edge_sdk.export.graphs.vision_onnx import projector_graph, vision_graph
from edge_sdk.export.graphs.weight_file import Part, WeightFile
from edge_sdk.export.model_config import ModelConfig, ProjectorConfig, TextConfig, TokenIds, VisionConfig
from edge_sdk.export.parser_check import check_decomposed
from edge_sdk.reasoning.grid import find_profile
from edge_sdk.types import Dialect, DType

DIALECTS: tuple[Dialect, ...] = ("native", "decomposed")
TINY_VISION = VisionConfig(hidden=32, layers=2, heads=2, intermediate=64)
TRUE_VISION = VisionConfig(layers=2)
COMMON = {"layers": 2, "head_dim": 128, "vocab": 4096, "max_positions": 32768, "rope_theta": 1e6, "eps": 1e-6}
TEXTS = {
    "2B": TextConfig(hidden=1536, heads=12, kv_heads=2, intermediate=8960, tied=True, **COMMON),
    "7B": TextConfig(hidden=3584, heads=28, kv_heads=4, intermediate=18944, tied=False, **COMMON),
    "tiny": TextConfig(hidden=64, heads=4, kv_heads=2, intermediate=96, tied=False, **COMMON | {"head_dim": 16}),
}
# A frame, and 96 of them as one batch; 8 questions, and a chunk of 512 tokens.
DECODE = {"q": (1, 1, 8), "r": (1, 1, 8), "frames": (1, 8, 16), "n": (1, 91, 2048)}
PREFILL = DECODE | {"q": (1, 512, 512), "r": (1, 1, 1)}


class Case(NamedTuple):
    """One graph; `form` is a vision profile, or a decoder's slots with `+lora` behind them where it is switchable."""

    size: str
    part: Part
    form: str = ""

    @property
    def config(self) -> ModelConfig:
        vision, text = TINY_VISION if self.size == "tiny" else TRUE_VISION, TEXTS[self.size]
        return ModelConfig(
            vision=vision,
            text=text,
            projector=ProjectorConfig(input=vision.hidden, output=text.hidden),
            tokens=TokenIds(image=1, video=1, end=(2,)),
            compression=True,
        )

    def weights(self, dtype: DType) -> WeightFile:
        return WeightFile(RandomWeights(self.config), self.part, dtype)

    def graph(self, file: WeightFile, dialect: Dialect) -> ModelGraph:
        config = self.config
        if self.part == "vision":
            size = find_profile(self.form).size
            return vision_graph(config.vision, Grid(rows=size.height // 14, columns=size.width // 14), file, dialect)
        if self.part == "projector":
            return projector_graph(config.projector, file, dialect)
        slots, _, lora = self.form.partition("+")
        form = DecoderForm(dialect=dialect, slots=int(slots), dtype=file.dtype, lora_rank=64 if lora else 0)
        return decoder_graph(config.text, form, file)


DECODERS = ("2048", "2048+lora", "10752", "10752+lora")
TWELVE = [
    Case("2B", "vision", "96f"),
    Case("2B", "vision", "48f"),
    Case("2B", "projector"),
    Case("7B", "projector"),
    *(Case(size, "decoder", form) for size in ("2B", "7B") for form in DECODERS),
]
TINY = [Case("tiny", "vision", "96f"), Case("tiny", "projector"), *(Case("tiny", "decoder", f) for f in DECODERS[:2])]


def compiled(case: Case, graph: ModelGraph, file: WeightFile, folder: Path, cache: Path) -> GateResult:
    """What the compiler makes of a graph; only if it is asked, weights are written to `folder`, for that long."""
    shapes = {spec.name: spec.shape for spec in graph.inputs}
    ranges = (DECODE, PREFILL) if case.part == "decoder" else (DECODE,)
    profiles = [profiles_for(shapes, sizes) for sizes in ranges]

    def compile_it() -> GateResult:
        path = folder / "graph.onnx"
        graph.save(path)
        weights = file.write(folder)
        try:
            return compile_gate(path, *profiles)
        finally:
            weights.unlink()

    return remembered(cache, graph.model.SerializeToString(), profiles, compile_it)


class Gated(msgspec.Struct, frozen=True, kw_only=True):
    """One graph that passed: what was made of it, and its operators with their counts."""

    name: str
    dialect: Dialect
    graph_bytes: int
    weight_bytes: int
    result: GateResult
    operators: dict[str, int]


def gated(case: Case, dialect: Dialect, folder: Path) -> Gated:
    """Compile one graph, and hold a decomposed one against the parser's table too. Raises `EngineError`."""
    file = case.weights("float16")
    graph = case.graph(file, dialect)
    if dialect == "decomposed":
        check_decomposed(graph.model)
    (version,) = graph.model.opset_import
    counts = Counter(node.op_type for node in graph.model.graph.node)
    since = {kind: onnx.defs.get_schema(kind, version.version).since_version for kind in counts}
    return Gated(
        name="-".join(case).rstrip("-"),
        dialect=dialect,
        graph_bytes=graph.model.ByteSize(),
        weight_bytes=file.size_bytes,
        result=compiled(case, graph, file, folder, folder / "kept"),
        operators={f"{kind}-{since[kind]}": counts[kind] for kind in sorted(counts)},
    )


def main(out: Path) -> None:
    """Write `gate.json` and `gate.md` to `out`."""
    watch, found = Watch(), []
    for dialect in DIALECTS:
        for case in TWELVE:
            with TemporaryDirectory() as folder:
                found.append(gated(case, dialect, Path(folder)))
            print(found[-1].name, dialect, found[-1].result, flush=True)
    what = "Graphs that TensorRT-RTX compiles ahead of time, and the operators that they are made of"
    write_measured(out, "gate", what, watch, found, _lines(found))


def _lines(found: list[Gated]) -> Iterator[str]:
    version = found[0].result.tensorrt_rtx
    yield f"TensorRT-RTX {version}, float16, true widths, two layers, 4,096 words; decoders with two profiles, decoding"
    yield "(up to 8 tokens) and prefill (up to 512). Decomposed graphs are also held against the table of what the"
    yield "parser of TensorRT 10.3 takes."
    yield ""
    yield from table(
        "graph | dialect | graph kB | weights MB | engine MB | layers | seconds",
        (
            [
                each.name,
                each.dialect,
                f"{each.graph_bytes / 1e3:.0f}",
                f"{each.weight_bytes / 1e6:,.0f}",
                f"{each.result.engine_bytes / 1e6:,.0f}",
                each.result.layers,
                f"{each.result.seconds:.1f}",
            ]
            for each in found
        ),
    )
    for dialect in DIALECTS:
        names = sorted({name for each in found if each.dialect == dialect for name in each.operators})
        yield f"\n{dialect}, opset {OPSETS[dialect]}; all of ONNX's own domain, with the versions that define them:"
        yield f"\n{', '.join(names)}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
