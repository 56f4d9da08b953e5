"""Bundles that watch and answer: the demo bundle's student and clip beside a tiny video LLM that knows nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from toy_speaker import ToyParts

from edge_sdk.bundle import Bundle, default_bundle, write_bundle
from edge_sdk.bundle.student_part import student_part

# One short cache: a clip of 96 frames of 6 tokens fits, with its time stamps, six questions and answers.
SLOTS = (640, 4096)
_KEPT: list[TemporaryDirectory[str]] = []


def make_asking(folder: Path, *, student: bool = True) -> Bundle:
    """A bundle in `folder`/bundle with two adapters; `student`: the demo's student and clip too."""
    toy = ToyParts(folder / "parts", "merged", SLOTS)
    graphs, files = dict(toy.graphs), toy.files()
    demo = student_part(default_bundle())
    if student:
        graphs |= demo.graphs
        files |= demo.files
    return write_bundle(
        folder / "bundle",
        name="asking",
        version="1",
        graphs=graphs,
        files=files,
        language=toy.language,
        student=demo.student if student else None,
        demo=demo.demo if student else None,
    )


@cache
def watching() -> Bundle:
    """A bundle with the demo's student and clip, and nothing that answers; it lies there until the tests end."""
    demo = student_part(default_bundle())
    _KEPT.append(TemporaryDirectory())
    return write_bundle(
        Path(_KEPT[0].name) / "student",
        name="student-demo",
        version="1",
        graphs=demo.graphs,
        files=demo.files,
        student=demo.student,
        demo=demo.demo,
        provenance=demo.provenance["provenance"],
    )
