"""CrashChat-mini as checkpoints again, from the demo bundle: what quantising and comparing it begins with.

As a script: `python tests/mini_checkpoint.py OUT` writes `OUT/base`, in VideoLLaMA3's layout, and a folder in
CrashChat's layout for each adapter. Weights are the bundle's to the bit, float16 in float32.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import load_file

from edge_sdk.bundle import Bundle, default_bundle
from edge_sdk.export.layouts import LAYOUTS, LINEARS, PROJECTOR
from edge_sdk.export.mini.checkpoints import save_adapter, save_base
from edge_sdk.export.mini.from_bundle import fill, language_component
from edge_sdk.export.mini.model import make_model
from edge_sdk.export.mini.recipe import Tuning, load_recipe
from edge_sdk.export.mini.tuning import wrap
from edge_sdk.reasoning.text import Tokenizer

RECIPE = "language-onward"
NATIVE = next(layout for layout in LAYOUTS if layout.name == "transformers")


def write_checkpoints(bundle: Bundle, out: Path) -> list[Path]:
    """The base and every adapter of `bundle`, in folders of `out` that must not exist."""
    language, (recipe, _) = language_component(bundle), load_recipe(RECIPE)
    tokenizer = bundle.path(language.tokenizer)
    model = make_model(recipe.sizes, Tokenizer.open(tokenizer).control)
    fill(model, bundle)
    base = save_base(model, tokenizer, out / "base")
    tunings: dict[str, Tuning] = {"linguistic": recipe.linguistic, "perception": recipe.perception}
    tuned = {name: wrap(model, tunings[name]) for name in language.adapters}
    for name, each in tuned.items():
        _fill_adapter(each, bundle, name, tunings[name].alpha / tunings[name].rank)
    return [base, *(save_adapter(each, base, out / name) for name, each in tuned.items())]


@torch.no_grad()
def _fill_adapter(tuned: Any, bundle: Bundle, name: str, scale: float) -> None:
    """LoRA matrices lie transposed in a bundle, and B holds the scale."""
    adapter = language_component(bundle).adapters[name]
    assert adapter.lora is not None
    pairs, left = load_file(bundle.path(adapter.lora)), dict(tuned.named_parameters())
    for key, value in pairs.items():
        _, layer, linear, side = key.split(".")
        public = f"layers.{layer}.{LINEARS[linear]}.lora_{side.upper()}."
        (place,) = (each for each in left if public in each and "vision" not in each)
        left[place].copy_(value.float().t() / (scale if side == "b" else 1.0))
    graph, _ = bundle.graph(next(iter(adapter.projector.values())))
    tensors = onnx.load(bundle.path(graph.file)).graph.initializer
    for tensor in (each for each in tensors if each.name in PROJECTOR):
        (place,) = (each for each in left if each.endswith(NATIVE.public(tensor.name)))
        values = torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
        left[place].copy_(values.t())


if __name__ == "__main__":
    for path in write_checkpoints(Bundle.open(default_bundle()), Path(sys.argv[1])):
        print(path)
