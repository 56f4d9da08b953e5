"""What `plan` says of this machine, held against the machine: a 2B of two layers on ONNX Runtime, one thread, float32.

The machine is measured as a target, as a user may do, and the graphs run in a process of their own. As a script it
writes the results: `python tests/plan_measured.py OUT`. Both sides want a core to themselves.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from measured import table, write_measured
from ort_graphs import Exported, RandomWeights
from plan_stages import StageCall, StageTimes

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.bundle.model_sizes import DecoderSizes, VisionSizes
from edge_sdk.export.graphs.decoder_io import DecoderForm
from edge_sdk.export.graphs.vision import Grid
from edge_sdk.export.model_config import ModelConfig, ProjectorConfig, TextConfig, TokenIds, VisionConfig
from edge_sdk.hardware import Target
from edge_sdk.hardware.numbers import ModelNumbers, ReasoningNumbers
from edge_sdk.hardware.plan import plan
from edge_sdk.hardware.roofline import Precision
from edge_sdk.types import DType

SLOTS, CHUNK, BRANCHES, LAYERS, VOCAB = 2048, 512, 8, 2, 4096
GRID = Grid(rows=14, columns=26)
SIZES = {"layers": LAYERS, "hidden": 1536, "heads": 12, "kv_heads": 2, "head_dim": 128, "intermediate": 8960}
CALLS = {
    "vision": StageCall(graph="vision", dims={"frames": 1}),
    "projector": StageCall(graph="projector", dims={"n": GRID.tokens}),
    "prefill": StageCall(graph="decoder", dims={"q": CHUNK, "r": 1}),
    "decode": StageCall(graph="decoder", dims={"q": BRANCHES, "r": BRANCHES}),
}
MEMORY_SHARE, TIME_SHARE = 0.15, 0.30
RUNS, HOSTS = 15, 4
# Read by numpy's BLAS when it is loaded.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_MEASURE_HOST = (
    "import msgspec; from edge_sdk.hardware.host import measure_host; "
    "print(msgspec.json.encode(measure_host(threads=1)).decode())"
)


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of the plan beside what was measured."""

    name: str
    unit: str
    planned: float
    measured: float

    @property
    def off(self) -> float:
        """How far the plan is from what was measured, as a share of the latter; negative where it says too little."""
        return self.planned / self.measured - 1


def compare(folder: Path) -> list[Compared]:
    """Plan and measure; `folder` takes 700 MB. The machine is measured before and after, and the best counts, as of the
    runs. A float16 model is run for its memory alone: few CPUs compute in it.
    """
    hosts = [host() for _ in range(HOSTS)]
    measured, halves = (_measured(folder / dtype, dtype, runs) for dtype, runs in (("float32", RUNS), ("float16", 1)))
    target = best_host(hosts + [host() for _ in range(HOSTS)])
    found = plan(_numbers("fp32"), target)
    times = {each.name: each.each_s for each in found.stages if each.each_s is not None}
    rows = [
        Compared(name=name, unit="ms", planned=times[name] * 1e3, measured=shortest * 1e3)
        for name, shortest in measured.seconds.items()
    ]
    peaks = {"float32": (found, measured), "float16": (plan(_numbers("fp16"), target), halves)}
    return rows + [
        Compared(name=f"peak memory, {dtype}", unit="MB", planned=planned.peak_mb, measured=seen.peak_mb)
        for dtype, (planned, seen) in peaks.items()
    ]


def _measured(folder: Path, dtype: DType, runs: int) -> StageTimes:
    folder.mkdir()
    write_graphs(folder, dtype, CALLS)
    return msgspec.json.decode(said(Path(__file__).with_name("plan_stages.py"), folder, runs), type=StageTimes)


def write_graphs(folder: Path, dtype: DType, calls: Mapping[str, StageCall]) -> None:
    """The graphs of the 2B of two layers, and `calls` of them, where `plan_stages.py` looks for both."""
    config = ModelConfig(
        vision=VisionConfig(layers=LAYERS),
        text=TextConfig(**SIZES, vocab=VOCAB, max_positions=32768, rope_theta=1e6, eps=1e-6, tied=False),
        projector=ProjectorConfig(input=1152, output=SIZES["hidden"]),
        tokens=TokenIds(image=1, video=1, end=(2,)),
        compression=True,
    )
    exported = Exported(RandomWeights(config), folder, dtype)
    graphs = {
        "vision": exported.vision(GRID, "native"),
        "projector": exported.projector("native"),
        "decoder": exported.decoder(DecoderForm(dialect="native", slots=SLOTS, dtype=dtype)),
    }
    for name, graph in graphs.items():
        graph.save(folder / f"{name}.onnx")
    entries = {name: graph.entry(f"{name}.onnx") for name, graph in graphs.items()}
    (folder / "graphs.json").write_bytes(msgspec.json.encode(entries))
    (folder / "calls.json").write_bytes(msgspec.json.encode(calls))


def _numbers(precision: Precision) -> ModelNumbers:
    reasoning = ReasoningNumbers(
        vision=VisionSizes(layers=LAYERS),
        decoder=DecoderSizes(**SIZES, vocab=VOCAB),
        precision=precision,
        vision_precision=precision,
        patches=GRID.patches,
        slots=SLOTS,
        chunk=CHUNK,
        branches=BRANCHES,
    )
    return ModelNumbers(name="a 2B of two layers", reasoning=reasoning)


def best_host(hosts: list[Target]) -> Target:
    """Each figure as the quietest moment had it."""
    peak = max(hosts, key=lambda each: each.dense_tops["fp32"].value)
    bandwidth = max(hosts, key=lambda each: each.bandwidth_gb_s.value if each.bandwidth_gb_s else 0)
    return msgspec.structs.replace(peak, bandwidth_gb_s=bandwidth.bandwidth_gb_s)


def host() -> Target:
    """This machine, measured in a process of its own with one thread."""
    return msgspec.json.decode(said("-c", _MEASURE_HOST), type=Target)


def said(*words: object) -> str:
    """The last line of what a script of one thread says."""
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


NOTE = f"""The true widths of the 2B with {LAYERS} layers in tower and decoder, {VOCAB:,} words, {SLOTS:,} slots,
native dialect, one thread, times in float32. Planned: `plan` for this machine as a target, the best of {2 * HOSTS}
measurements around the runs. Measured: the shortest of {RUNS} runs, and the largest resident set of a process that
holds all three graphs, exported once in float32 and once in float16, which ONNX Runtime widens. Vision and projector
take one frame, prefill {CHUNK} tokens, decode {BRANCHES}.
Limits: {TIME_SHARE:.0%} of a time, {MEMORY_SHARE:.0%} of the memory."""


def main(out: Path) -> None:
    """Write `plan.json` and `plan.md` to `out`."""
    watch = Watch()
    with TemporaryDirectory() as folder:
        rows = compare(Path(folder))
    cells = [[r.name, f"{r.planned:,.1f} {r.unit}", f"{r.measured:,.1f} {r.unit}", f"{r.off:+.0%}"] for r in rows]
    lines = [NOTE, "", *table("stage | planned | measured | off by", cells)]
    write_measured(out, "plan", "Plan of this machine against the machine", watch, rows, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
