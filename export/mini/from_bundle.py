"""A mini loaded from its bundle for further training: the float weights of its graphs, under torch's names.

A bundle keeps the decoder without the adapters, and the projectors of the adapters. It lacks the projector of the
pre-trained model; that of an adapter, which was tuned from it, takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import Language
from edge_sdk.errors import ConfigError
from edge_sdk.export.layouts import EMBEDDING, HEAD, LAYOUTS
from edge_sdk.export.mini.recipe import Recipe

_NATIVE = next(layout for layout in LAYOUTS if layout.name == "transformers")


def language_component(bundle: Bundle) -> Language:
    """The video LLM of `bundle`. Raises `ConfigError` for none, and for one that training cannot continue from."""
    language = bundle.manifest.language
    if language is None:
        raise ConfigError(f"bundle {bundle.manifest.name!r} has no video LLM; give one of `edge-sdk distil language`")
    if language.quantisation is not None:
        raise ConfigError(
            f"bundle {bundle.manifest.name!r} is in few bits ({language.quantisation.recipe}); expected the one in "
            "full weights that it was made from"
        )
    if not all(found.lora_rank for found in language.decoders.values()):
        raise ConfigError(
            f"bundle {bundle.manifest.name!r} has adapters merged into their decoders; expected switchable ones"
        )
    return language


def check_start(bundle: Bundle | None, recipe: Recipe) -> None:
    """Raise `ConfigError` where a model of `recipe` cannot continue from that of `bundle`; no weights are read.

    Without a bundle, raise it if the recipe tunes only adapters or trains a model further.
    """
    if bundle is None:
        if recipe.onward or not recipe.language:
            what = "trains a model further" if recipe.language else "tunes adapters alone"
            raise ConfigError(f"recipe {recipe.name} {what}; give the bundle to start from with --from")
        return
    sizes, language = recipe.sizes, language_component(bundle)
    tower, decoder = language.vision, language.decoder
    known = {
        "hidden": decoder.hidden,
        "heads": decoder.heads,
        "kv_heads": decoder.kv_heads,
        "tower_layers": tower.layers,
        "tower_intermediate": tower.intermediate,
        "decoder_layers": decoder.layers,
        "decoder_intermediate": decoder.intermediate,
        "vocabulary": decoder.vocab,
    }
    others = {name: found for name, found in known.items() if found != getattr(sizes, name)}
    if others:
        wanted = ", ".join(f"{name} {getattr(sizes, name)}" for name in others)
        found = ", ".join(f"{name} {value}" for name, value in others.items())
        raise ConfigError(
            f"bundle {bundle.manifest.name!r}: expected {wanted}, found {found}; the recipe's sizes must be those of "
            "the bundle"
        )


# Any: a transformers model.
@torch.no_grad()
def fill(model: Any, bundle: Bundle) -> None:
    """Give `model` the weights of `bundle`. Raises `ConfigError` where a tensor is missing or of another shape."""
    found, wanted = dict(_tensors(bundle)), dict(model.named_parameters())
    wanted.pop("lm_head.weight", None)
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        raise ConfigError(
            f"bundle {bundle.manifest.name!r}: expected {missing[0]} among its weights, found none; "
            "the recipe's sizes must be those of the bundle"
        )
    for name, parameter in wanted.items():
        if found[name].numel() != parameter.numel():
            raise ConfigError(
                f"bundle {bundle.manifest.name!r}: {name} is {list(found[name].shape)}, expected "
                f"{list(parameter.shape)}; the recipe's sizes must be those of the bundle"
            )
        parameter.copy_(found[name].reshape(parameter.shape))


def _tensors(bundle: Bundle) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor as float32 under transformers' name; graphs hold the transpose of a checkpoint's matrix."""
    language = language_component(bundle)
    table = language.embedding
    rows = np.fromfile(
        bundle.path(table.file),
        np.dtype(table.dtype).newbyteorder("<"),
        table.vocab * table.hidden,
        offset=table.offset_bytes or 0,
    )
    yield _NATIVE.public(EMBEDDING), torch.from_numpy(rows.astype(np.float32)).reshape(table.vocab, table.hidden)
    for graph in _graphs(language):
        path = Path(bundle.path(bundle.manifest.graphs[graph].file))
        for tensor in onnx.load(path).graph.initializer:
            part, _, rest = tensor.name.partition(".")
            if part not in ("vision", "projector", "decoder") or tensor.name == HEAD or "rope" in rest:
                continue
            values = torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
            yield _NATIVE.public(tensor.name), values.t().contiguous() if values.ndim == 2 else values


def _graphs(language: Language) -> list[str]:
    """One graph of each part."""
    profile, adapter = next(iter(language.profiles.values())), next(iter(language.adapters.values()))
    graphs = (profile.graphs, adapter.projector)
    return [*(next(iter(each.values())) for each in graphs), language.decoders[adapter.decoder].graphs[0].graph]
