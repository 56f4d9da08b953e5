"""Bundles that watch and answer: the demo bundle's student and clip beside a tiny video LLM that knows nothing."""

from __future__ import annotations

from pathlib import Path

from toy_speaker import ToyParts

from edge_sdk.bundle import Bundle, default_bundle, open_bundle, write_bundle

# One short cache: a clip of 96 frames of 6 tokens fits, with its time stamps, six questions and answers.
SLOTS = (640, 4096)


def make_asking(folder: Path, *, student: bool = True) -> Bundle:
    """A bundle in `folder`/bundle with two adapters; `student`: the demo's student and clip too."""
    toy = ToyParts(folder / "parts", "merged", SLOTS)
    graphs, files = dict(toy.graphs), toy.files()
    demo = open_bundle().manifest
    if student:
        graphs |= demo.graphs
        files |= {path: default_bundle() / path for path in demo.files}
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
