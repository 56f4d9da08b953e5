"""Decode steps of a decoder of the 2B's widths with weights in float32, INT8 and INT4, side by side on ONNX Runtime.

As a script it writes the results: `python tests/decode_speed.py OUT FOLDER LAYERS THREADS...`, with graphs in FOLDER,
which are made where there are none; without THREADS it makes them and ends. All sessions are open at once and take
turns, so that they meet the same machine. The cache is bound in place, as a device runs it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import onnxruntime
from measured import table, write_measured
from ort_graphs import RandomWeights
from true_size import SHARED

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.export.graphs.decoder_io import DecoderForm
from edge_sdk.export.graphs.decoder_onnx import decoder_graph
from edge_sdk.export.graphs.onnx_graph import ModelGraph
from edge_sdk.export.graphs.weight_file import WeightFile
from edge_sdk.export.model_config import ModelConfig
from edge_sdk.export.quantise.decoder_files import DecoderFiles
from edge_sdk.export.quantise.recipe import QuantiseRecipe, Storage
from edge_sdk.export.quantise.rewrite import with_stored

SLOTS, CONTEXT, ROUNDS = 2048, 1500, 9
GOAL = 1.8
RECIPES = {
    "w8": QuantiseRecipe(linears=Storage(bits=8)),
    "w4": QuantiseRecipe(linears=Storage(bits=4, block=128)),
    "w4, block 32": QuantiseRecipe(linears=Storage(bits=4, block=32)),
}
# What ONNX Runtime makes of the rows that meet a few-bit matrix: its default, 8-bit numbers; or float32.
LEVELS: dict[str, dict[str, str]] = {"": {}, ", float32 rows": {"session.qdq_matmulnbits_accuracy_level": "1"}}


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """A graph's decode step of `rows` tokens: median and fastest of the rounds; `speedup` is over float32's median."""

    weights: str
    threads: int
    rows: int
    median_ms: float
    fastest_ms: float
    speedup: float
    weight_mb: float


class Step:
    """A session with its cache in place, ready for calls of `rows` tokens."""

    # Any: onnxruntime ships no types.
    def __init__(self, path: Path, graph: ModelGraph, threads: int, settings: dict[str, str]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        for key, value in settings.items():
            options.add_session_config_entry(key, value)
        self._session: Any = onnxruntime.InferenceSession(path, options)
        self._hidden = graph.entry(path.name).inputs[0].shape[2]
        self._cache = {
            spec.name: onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(spec.shape, np.float32))
            for spec in graph.entry(path.name).inputs
            if spec.name.startswith("past_")
        }

    def seconds(self, rows: int) -> float:
        """One call."""
        random = np.random.default_rng(0)
        mask = np.zeros((1, 1, rows, SLOTS), bool)
        mask[..., :CONTEXT] = True
        places = np.arange(CONTEXT, CONTEXT + rows)
        mask[0, 0, :, CONTEXT : CONTEXT + rows] = np.tri(rows, dtype=bool)
        feeds = {
            "embeds": random.standard_normal((1, rows, self._hidden), np.float32),
            "position_ids": places[None],
            "mask": mask,
            "write_index": places[:1],
            "rows": np.arange(rows),
        }
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for name, value in self._cache.items():
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(name.replace("past", "present"), value)
        binding.bind_output("logits", "cpu")
        begun_s = time.perf_counter()
        self._session.run_with_iobinding(binding)
        return time.perf_counter() - begun_s


def config_2b(layers: int) -> ModelConfig:
    """The published 2B with so many layers."""
    with TemporaryDirectory() as folder:
        published = SHARED / "videollama3-configs" / "DAMO-NLP-SG__VideoLLaMA3-2B__config.json"
        settings = json.loads(published.read_text())
        settings["num_hidden_layers"] = layers
        (Path(folder) / "config.json").write_text(json.dumps(settings))
        return ModelConfig.read(Path(folder))


def write_graphs(folder: Path, layers: int) -> dict[str, tuple[Path, ModelGraph, float]]:
    """The decoder in float32 and by every recipe: its graph's path, the graph, and 10^6 bytes of weights."""
    weights = RandomWeights(config_2b(layers))
    plain = WeightFile(weights, "decoder", "float32")
    form = DecoderForm(dialect="native", slots=SLOTS, dtype="float32", lora_rank=0)
    graph = decoder_graph(weights.config.text, form, plain)
    found = {"fp32": (folder / "fp32/decoder.onnx", graph, plain.size_bytes / 1e6)}
    if not (folder / "fp32").exists():
        (folder / "fp32").mkdir(parents=True)
        plain.write(folder / "fp32")
        graph.save(folder / "fp32/decoder.onnx")
    for number, (name, recipe) in enumerate(RECIPES.items()):
        formats = recipe.formats(layers)
        files, place = DecoderFiles(weights, "float32", formats), folder / str(number)
        few = with_stored(graph, files.places, formats)
        if not place.exists():
            place.mkdir()
            for file in files.files:
                file.write(place)
            few.save(place / "decoder.onnx")
        found[name] = (place / "decoder.onnx", few, sum(file.size_bytes for file in files.files) / 1e6)
    return found


def measure(graphs: dict[str, tuple[Path, ModelGraph, float]], threads: int) -> Iterator[Timed]:
    """Every graph with so many threads, in turns."""
    steps, sizes = {}, {}
    for name, (path, graph, size_mb) in graphs.items():
        for level, settings in LEVELS.items():
            if name == "w4" or not settings:
                steps[name + level] = Step(path, graph, threads, settings)
                sizes[name + level] = size_mb
    for rows in (1, 8):
        spent: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(ROUNDS + 1):
            for name, step in steps.items():
                seconds = step.seconds(rows)
                if turn:
                    spent[name].append(seconds)
        whole = float(np.median(spent["fp32"]))
        for name, each in spent.items():
            yield Timed(
                weights=name,
                threads=threads,
                rows=rows,
                median_ms=1e3 * float(np.median(each)),
                fastest_ms=1e3 * min(each),
                speedup=whole / float(np.median(each)),
                weight_mb=sizes[name],
            )


def main(out: Path, layers: int, threads: list[int], folder: Path) -> None:
    """Write `decode-2b.json` and `.md` to `out`; `folder` holds the graphs, made where there are none."""
    graphs, watch = write_graphs(folder, layers), Watch()
    found = [each for count in threads for each in measure(graphs, count)]
    config = config_2b(layers).text
    said = (
        f"{layers} of 28 layers of the 2B's widths and its head of {config.vocab:,} words, INT8 beside few-bit layers; "
        f"random weights, native dialect, {SLOTS:,} slots of which {CONTEXT:,} are attended, float32 activations; "
        f"median of {ROUNDS} calls in turns. Goal: INT4 at one row {GOAL} times as fast as float32."
    )
    rows = [
        [
            e.weights,
            e.threads,
            e.rows,
            f"{e.median_ms:.1f}",
            f"{e.fastest_ms:.1f}",
            f"{e.speedup:.2f}",
            f"{e.weight_mb:,.0f}",
        ]
        for e in found
    ]
    head = "weights | threads | rows | median ms | fastest ms | times fp32 | weights MB"
    write_measured(out, "decode-2b", "Decode steps in few bits", watch, found, [said, "", *table(head, rows)])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[3]), [int(word) for word in sys.argv[4:]], Path(sys.argv[2]))
