"""Measure one runtime on one bundle, in a separate process: engines where it needs them, parity, then speed.

`python -m edge_sdk.benchmarks.campaign.worker ORDER ROWS`: ORDER is a JSON object, ROWS the file for the rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec

from edge_sdk.benchmarks.campaign.checks import answers, choose, engines, outputs
from edge_sdk.benchmarks.campaign.figures import DECODE, PREFILL, VISION_NAMES
from edge_sdk.benchmarks.campaign.order import Order
from edge_sdk.benchmarks.campaign.rows import Group, Lines, Row, refuse
from edge_sdk.benchmarks.campaign.speed import Measured, decoder_rows, student_row, vision_rows
from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.bundle.manifest import Manifest
from edge_sdk.errors import EdgeError
from edge_sdk.registry import open_runtime

_LEAST_S = 2.0


def planned(manifest: Manifest, runtime: str) -> tuple[str, ...]:
    """The rows that a process for `runtime` makes of a bundle."""
    names: tuple[str, ...] = ("engines",) if runtime in ("trt", "rtx") else ()
    names += ("outputs",)
    names += ("student",) if manifest.student else ()
    return (*names, "answers", *VISION_NAMES, PREFILL, DECODE) if manifest.language else names


def groups(bundle: Bundle, order: Order, lines: Lines) -> Iterator[Group]:
    """The groups of rows to measure, in the order of `planned`."""
    chosen = choose(bundle, order)
    measured = Measured(bundle=bundle, order=order, lines=lines, chosen=chosen)
    if order.runtime in ("trt", "rtx"):
        yield _group(("engines",), partial(engines, bundle, order, lines, chosen))
    yield _group(("outputs",), partial(outputs, bundle, order, lines, chosen))
    if bundle.manifest.student:
        yield _group(("student",), partial(student_row, measured))
    if bundle.manifest.language:
        yield _group(("answers",), partial(answers, bundle, order, lines, chosen))
        yield _group(VISION_NAMES, partial(vision_rows, measured))
        yield _group((PREFILL, DECODE), partial(decoder_rows, measured))


def _group(names: tuple[str, ...], work: Callable[[], Iterator[Row]]) -> Group:
    return Group(names, _LEAST_S, work)


def main(arguments: Sequence[str]) -> None:
    """Measure what the order asks for."""
    order, path = msgspec.json.decode(arguments[0], type=Order), Path(arguments[1])
    lines = Lines(path, order.runtime, order.subject, order.seconds)
    try:
        open_runtime(order.runtime_name)
        bundle = open_bundle(order.folder)
        found = list(groups(bundle, order, lines))
    except EdgeError as error:
        refuse(error)
    lines.run(found)


if __name__ == "__main__":
    main(sys.argv[1:])
