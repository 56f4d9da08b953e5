"""The adapters of a bundle in a reasoner: a projector, a prefix in the adapter's decoder, and the adapter's tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from edge_sdk.bundle.manifest_language import AnswerCalibration
from edge_sdk.errors import BundleError
from edge_sdk.reasoning.cache.feeding import standing_inputs
from edge_sdk.reasoning.cache.prefix import Prefix
from edge_sdk.reasoning.prompt import Prompt
from edge_sdk.reasoning.text import Ids
from edge_sdk.runtime import Array, Session
from edge_sdk.tasks import find_task
from edge_sdk.tensors import allocate, describe, numpy_dtype, shape_of
from edge_sdk.types import DType, StateSpec, TensorSpec

# Element types as safetensors names them.
_CODES: dict[DType, str] = {"float32": "F32", "float16": "F16"}


@dataclass(frozen=True, eq=False)
class TunedModel:
    """One adapter: its tasks, its projector, and the prefix that holds its clip and answers."""

    name: str
    tasks: tuple[str, ...]
    projector: Session
    prefix: Prefix
    calibration: Mapping[str, AnswerCalibration]


def read_questions(path: Path, prompt: Prompt, tasks: Sequence[str]) -> dict[str, Ids]:
    """Return the ids of each task's question, from the texts in the bundle's file of prompts. Raises `BundleError`."""
    try:
        texts = {name: entry["text"] for name, entry in json.loads(path.read_text(encoding="utf-8")).items()}
        return {task: prompt.question(texts[find_task(task).id]) for task in tasks}
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise BundleError(f"{path}: expected the text of every question, found {error!r}; export again") from error


def lora_feeds(path: Path | None, inputs: Sequence[TensorSpec], state: Sequence[StateSpec]) -> dict[str, Array]:
    """Return the values of a decoder's LoRA inputs from a safetensors file; zeros for an adapter without LoRA.

    The file is mapped, so that the host need not keep values that are on a device. The arrays are read-only, so that a
    runtime may hold them between calls. Raises `BundleError` for a file that lacks any of them.
    """
    specs = standing_inputs(inputs, state)
    feeds = _mapped(path, specs) if path else {spec.name: allocate(spec, {}) for spec in specs}
    for array in feeds.values():
        array.flags.writeable = False
    return feeds


def _mapped(path: Path, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Return views of the file. `safetensors` checks the header, but can itself only return copies."""
    try:
        with safe_open(path, framework="np"), path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        # A plain array instead of a memmap: a runtime would convert the memmap to a new view in every call.
        values = np.asarray(np.memmap(path, np.uint8, mode="r", offset=8 + size))
        return {spec.name: _view(path, spec, header[spec.name], values) for spec in specs}
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise BundleError(f"{path}: expected the decoder's LoRA matrices, found {error}; export again") from error


# Any: JSON that `safetensors` has accepted as its header.
def _view(path: Path, spec: TensorSpec, entry: dict[str, Any], values: Array) -> Array:
    dtype = numpy_dtype(spec).newbyteorder("<")
    if entry["dtype"] != _CODES.get(spec.dtype) or tuple(entry["shape"]) != spec.shape:
        found = f"{entry['dtype']} {entry['shape']}"
        raise BundleError(f"{path}: expected {spec.name} as {describe(spec)}, found {found}; export again")
    view: Array = values[slice(*entry["data_offsets"])].view(dtype).reshape(shape_of(spec, {}))
    return view if view.flags.aligned else view.copy()
