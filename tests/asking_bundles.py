"""Bundles that watch and answer: the demo bundle's student and clip beside a tiny video LLM that knows nothing."""

from __future__ import annotations

from pathlib import Path

from checkpoint_makers import save_adapter, tune
from language_bundles import Assembly, save_speaking, speaking_model

from edge_sdk.bundle import Bundle, default_bundle, open_bundle, write_bundle

# One short cache: a clip of 96 frames of 6 tokens fits, with its time stamps, six questions and answers.
SLOTS = (640, 4096)


def make_asking(folder: Path, *, student: bool = True) -> Bundle:
    """A bundle in `folder`/bundle with two adapters; `student`: the demo's student and clip too."""
    model = speaking_model()
    base = save_speaking(model, folder / "checkpoint")
    adapters = {name: folder / name for name in ("linguistic", "perception")}
    for seed, path in enumerate(adapters.values(), start=1):
        save_adapter(tune(model, seed=seed), path)
    made = Assembly(base, folder / "work", adapters, slots=SLOTS)
    graphs, files = dict(made.graphs), files_below(folder / "work")
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
        language=made.language,
        student=demo.student if student else None,
        demo=demo.demo if student else None,
    )


def files_below(folder: Path) -> dict[str, Path | bytes]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
