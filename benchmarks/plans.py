"""Write plans of the public models on the most requested boards and cards, as text and data.

Nothing is measured: every figure follows from the targets' data and the models' shapes.
`python -m edge_sdk.benchmarks.plans --out DIR`
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from edge_sdk.files import write_json
from edge_sdk.hardware import find_target
from edge_sdk.hardware.numbers import MODELS, ModelNumbers
from edge_sdk.hardware.plan import Plan, describe, plan
from edge_sdk.hardware.roofline import Precision

TARGETS = ("orin-nano-8gb", "orin-nx-16gb", "agx-orin-64gb", "thor-t5000", "rtx-4090", "h200")
CHOICES: tuple[tuple[str, Precision], ...] = (
    ("videollama3-7b", "w4a16"),
    ("videollama3-7b", "fp16"),
    ("videollama3-2b", "w4a16"),
    ("videollama3-2b", "fp16"),
)
# The product's own pairs, in full.
SHOWN = (
    ("videollama3-2b", "w4a16", "orin-nano-8gb"),
    ("videollama3-7b", "w4a16", "orin-nx-16gb"),
    ("videollama3-7b", "w4a16", "agx-orin-64gb"),
    ("videollama3-7b", "fp16", "thor-t5000"),
    ("videollama3-7b", "fp16", "rtx-4090"),
)


def plans() -> list[Plan]:
    """Every choice on every target, one merged adapter, 96 frames."""
    return [plan(_model(name, precision), find_target(target)) for name, precision in CHOICES for target in TARGETS]


def _model(name: str, precision: Precision) -> ModelNumbers:
    model = MODELS[name]
    if model.reasoning is None:
        return model
    return msgspec.structs.replace(model, reasoning=msgspec.structs.replace(model.reasoning, precision=precision))


def text(found: Sequence[Plan]) -> str:
    """The plans as Markdown: one table, then the product's own pairs in full."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Sequence[Plan]) -> Iterator[str]:
    yield "# Plans: 96 frames of 364 x 196, one merged adapter, 10,752 slots, vision in fp16"
    yield "\nMB are 10^6 bytes. `clip`: every answer after a whole clip was given at once. Nothing here was measured.\n"
    yield "| model | decoder | target | at rest MB | peak MB | available MB | building MB | clip s | runs | builds |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for each in found:
        cells = (each.rest_mb, each.peak_mb, each.available_mb or 0, each.build_mb or 0)
        numbers = " | ".join(f"{cell:,.0f}" for cell in cells)
        verdicts = " | ".join("yes" if good else "no" for good in (each.runs, each.builds))
        what = f"{each.model} | {each.precision['decoder']} | {each.target}"
        yield f"| {what} | {numbers} | {each.clip_s:.1f} | {verdicts} |"
    for each in found:
        if (each.model, each.precision["decoder"], each.target) in SHOWN:
            yield f"\n```\n{describe(each)}\n```"


def main() -> None:
    """Write `plans.md` and `plans.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for plans.md and plans.json")
    out: Path = parser.parse_args().out
    found = plans()
    out.mkdir(parents=True, exist_ok=True)
    (out / "plans.md").write_text(text(found), encoding="utf-8")
    write_json(out / "plans.json", found)


if __name__ == "__main__":
    main()
