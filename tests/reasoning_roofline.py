"""Where each stage of the reasoner lies under the roofline: measured on this machine, predicted for the targets.

The machine's peaks are measured as `plan` measures them; the stages are those of `plan_measured.py`, a 2B of two layers
in float32 on one thread, with pictures to patches before and decoding of one answer and of six packed ones behind. As a
script it writes the results: `python tests/reasoning_roofline.py OUT`. It wants a core to itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from matplotlib.figure import Figure
from measured import table, write_measured
from plan_measured import GRID, HOSTS, LAYERS, SIZES, SLOTS, VOCAB, best_host, host, said, write_graphs
from plan_stages import StageCall, StageTimes

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.bundle.model_sizes import DecoderSizes, VisionSizes
from edge_sdk.files import atomic_path
from edge_sdk.hardware import find_target
from edge_sdk.hardware.roofline import (
    Precision,
    Rates,
    Work,
    decoder_work,
    projector_work,
    rates,
    stage,
    vision_work,
)
from edge_sdk.reasoning.grid import FrameSize
from edge_sdk.reasoning.vision_input import VisionInput

RUNS, CHUNK, PACKED = 15, 128, 6
CALLS = {
    "vision, a frame": StageCall(graph="vision", dims={"frames": 1}),
    "projector, a frame": StageCall(graph="projector", dims={"n": GRID.tokens}),
    f"prefill, {CHUNK} tokens": StageCall(graph="decoder", dims={"q": CHUNK, "r": 1}),
    "decode, one answer": StageCall(graph="decoder", dims={"q": 1, "r": 1}),
    f"decode, {PACKED} packed": StageCall(graph="decoder", dims={"q": PACKED, "r": PACKED}),
}
INPUT = "pictures to patches, a frame"
PICTURE, SEEN = FrameSize(width=1280, height=720), FrameSize(width=364, height=196)
TARGETS = ("orin-nano-8gb", "orin-nx-16gb", "agx-orin-64gb", "thor-t5000")
# Layers of the whole model in both halves; its vocabulary.
WHOLE = {"vision": 27, "decoder": 28, "vocab": 151_936}
NAME = "reasoning-roofline"


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One stage on this machine: what it is, how long it took at least, and what the roofline allows."""

    name: str
    flops: float
    bytes: float
    seconds: float
    allowed_s: float
    bound: str

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / self.bytes


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of the whole 2B on a target, in seconds; None where the target claims no peak."""

    target: str
    precision: Precision
    seconds: dict[str, float | None]
    bounds: dict[str, str | None]


def works(layers: dict[str, int], precision: Precision) -> dict[str, Work]:
    """What each call is, for a 2B of `layers`; every token meets all slots, as the graphs of a CPU compute."""
    vision = VisionSizes(layers=layers["vision"])
    decoder = DecoderSizes(**{**SIZES, "layers": layers["decoder"]}, vocab=layers["vocab"])
    found = {}
    for name, call in CALLS.items():
        if call.graph == "vision":
            found[name] = vision_work(vision, GRID.patches, 1, precision)
        elif call.graph == "projector":
            found[name] = projector_work(vision, decoder, GRID.tokens, precision)
        else:
            head_bits = 8 if precision == "w4a16" else None
            found[name] = decoder_work(decoder, call.dims["q"], SLOTS, call.dims["r"], precision, head_bits)
    return found


def input_work() -> Work:
    """A picture to normalised patches in float32: four taps of a cubic for each pixel of the source, across and then
    down, at a multiplication and an addition. Bytes are the picture's, those of its patches, and the floats.
    """
    taps = 4 * 3 * PICTURE.height * (PICTURE.width + SEEN.width)
    seen = 3 * SEEN.width * SEEN.height
    return Work(flops=2 * taps, bytes=3 * PICTURE.width * PICTURE.height + (2 + 4) * seen)


def input_s() -> float:
    """Seconds of a picture to normalised patches, on one thread, the shortest of ten times as many runs."""
    vision = VisionInput(SEEN)
    picture = np.random.default_rng(0).integers(0, 256, (PICTURE.height, PICTURE.width, 3), np.uint8)
    shortest = float("inf")
    for _ in range(10 * RUNS):
        begun_s = time.perf_counter()
        vision.normalised(vision.from_rgb(picture))
        shortest = min(shortest, time.perf_counter() - begun_s)
    return shortest


def measure() -> tuple[list[Point], Rates]:
    """Every stage on this machine, and its peaks."""
    hosts = [host() for _ in range(HOSTS)]
    with TemporaryDirectory() as name:
        folder = Path(name) / "graphs"
        folder.mkdir()
        write_graphs(folder, "float32", CALLS)
        times = msgspec.json.decode(said(Path(__file__).with_name("plan_stages.py"), folder, RUNS), type=StageTimes)
    at = rates(best_host(hosts + [host() for _ in range(HOSTS)]), "fp32")
    if at is None:
        raise SystemExit("this machine's peaks could not be measured")
    works_here = {INPUT: input_work(), **works({"vision": LAYERS, "decoder": LAYERS, "vocab": VOCAB}, "fp32")}
    seconds = {INPUT: input_s(), **times.seconds}
    points = []
    for stage_name, work in works_here.items():
        roof = stage(stage_name, "call", 1, work, at)
        points.append(
            Point(
                name=stage_name,
                flops=work.flops,
                bytes=work.bytes,
                seconds=seconds[stage_name],
                allowed_s=roof.each_s or 0.0,
                bound=str(roof.bound),
            )
        )
    return points, at


def predict() -> list[Predicted]:
    """The whole 2B on the targets, linears in 4 bits and vision in float16."""
    found = []
    for name in TARGETS:
        target = find_target(name)
        parts: dict[str, Precision] = {"vision, a frame": "fp16", "projector, a frame": "fp16"}
        staged = {
            call: stage(call, "call", 1, works(WHOLE, precision)[call], rates(target, precision))
            for call, precision in ((call, parts.get(call, "w4a16")) for call in CALLS)
        }
        found.append(
            Predicted(
                target=name,
                precision="w4a16",
                seconds={call: each.each_s for call, each in staged.items()},
                bounds={call: each.bound for call, each in staged.items()},
            )
        )
    return found


def draw(points: Sequence[Point], at: Rates, out: Path) -> None:
    """The roof of this machine with a point a stage."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    reach = [2.0**exponent for exponent in range(-2, 11)]
    axes.loglog(reach, [min(at.flops_s, each * at.bytes_s) / 1e9 for each in reach], color="black", label="roof")
    together = [1e-9 / (1 / at.flops_s + 1 / (each * at.bytes_s)) for each in reach]
    axes.loglog(reach, together, color="grey", ls="--", label="both one after the other, as a core works")
    for number, point in enumerate(points):
        place = point.intensity, point.flops / point.seconds / 1e9
        axes.plot(*place, "o", color=f"C{number}", label=f"{point.name}: {point.allowed_s / point.seconds:.0%}")
    axes.set(
        xlabel="operations a byte", ylabel="10^9 operations a second", title="One core, float32, a 2B of two layers"
    )
    axes.legend(fontsize="small")
    with atomic_path(out) as path:
        figure.savefig(path, dpi=90, format="png")


def main(out: Path) -> None:
    """Write the table and the picture to `out`."""
    watch = Watch()
    points, at = measure()
    predicted = predict()
    here = [
        [
            p.name,
            f"{p.flops / 1e9:,.2f}",
            f"{p.bytes / 1e6:,.1f}",
            f"{p.intensity:,.1f}",
            f"{p.seconds * 1e3:,.2f}",
            f"{p.flops / p.seconds / 1e9:,.0f}",
            f"{p.allowed_s * 1e3:,.2f}",
            p.bound,
            f"{p.allowed_s / p.seconds:.0%}",
        ]
        for p in points
    ]
    there = [
        [
            each.target,
            *(
                f"{s * 1e3:,.2f} ({b})" if (s := each.seconds[call]) and (b := each.bounds[call]) else ""
                for call in CALLS
            ),
        ]
        for each in predicted
    ]
    lines = [
        f"This machine, one thread: {at.flops_s / 1e9:,.0f} · 10^9 operations and {at.bytes_s / 1e9:,.1f} · 10^9 bytes",
        f"a second, the best of {2 * HOSTS} measurements around the runs. A 2B's widths, {LAYERS} layers in tower and",
        f"decoder, {VOCAB:,} words, {SLOTS:,} slots, float32; the shortest of {RUNS} runs. `Allowed`: arithmetic and",
        "traffic one after the other, as a core was seen to work; `reached` is allowed over measured time.",
        f"Pictures of {PICTURE.width}x{PICTURE.height} become patches of {SEEN.width}x{SEEN.height} in whole numbers",
        "of 32 bits, whose products take a core longer than those of floats.",
        "",
        *table("stage|10^9 operations|10^6 bytes|operations a byte|ms|10^9 a second|allowed ms|bound|reached", here),
        "",
        f"![roofline]({NAME}.png)",
        "",
        "Predicted, not measured: the whole 2B (27 and 28 layers), decoder in 4 bits, head in 8, tower in float16,",
        "each stage in ms by the target's own figures, and what bounds it.",
        "",
        *table("|".join(["target", *CALLS]), there),
    ]
    found = {"here": points, "peaks": at, "predicted": predicted}
    write_measured(out, NAME, "Roofline of each stage of the reasoner", watch, found, lines)
    draw(points, at, out / f"{NAME}.png")
    print("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
