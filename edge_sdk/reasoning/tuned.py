"""The adapters of a bundle as a reasoner holds them: a projector, a prefix in the adapter's decoder, and its tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from edge_sdk.bundle.manifest_language import AnswerCalibration
from edge_sdk.errors import BundleError
from edge_sdk.reasoning.cache.feeding import PER_CALL
from edge_sdk.reasoning.cache.prefix import Prefix
from edge_sdk.reasoning.prompt import Prompt
from edge_sdk.reasoning.text import Ids
from edge_sdk.runtime import Array, Session
from edge_sdk.tasks import find_task
from edge_sdk.tensors import allocate, describe, describe_array, numpy_dtype
from edge_sdk.types import StateSpec, TensorSpec


@dataclass(frozen=True, eq=False)
class TunedModel:
    """One adapter: the tasks that it is asked, and where its clip and their answers are."""

    name: str
    tasks: tuple[str, ...]
    projector: Session
    prefix: Prefix
    calibration: Mapping[str, AnswerCalibration]


def read_questions(path: Path, prompt: Prompt, tasks: Sequence[str]) -> dict[str, Ids]:
    """Ids of each task's question, from its text in the bundle's file of prompts. Raises `BundleError`."""
    try:
        texts = {name: entry["text"] for name, entry in json.loads(path.read_text(encoding="utf-8")).items()}
        return {task: prompt.question(texts[find_task(task).id]) for task in tasks}
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise BundleError(f"{path}: expected the text of every question, found {error!r}; export again") from error


def lora_feeds(path: Path | None, inputs: Sequence[TensorSpec], state: Sequence[StateSpec]) -> dict[str, Array]:
    """Values of a decoder's LoRA inputs from a safetensors file; zeros for an adapter that was never tuned.

    The arrays cannot be changed: a runtime may then keep them on its device. Raises `BundleError` for a file that does
    not have them all.
    """
    other = {entry.input for entry in state}.union(PER_CALL)
    specs = [spec for spec in inputs if spec.name not in other]
    feeds = _read(path, specs) if path else {spec.name: allocate(spec, {}) for spec in specs}
    for array in feeds.values():
        array.flags.writeable = False
    return feeds


def _read(path: Path, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    try:
        with safe_open(path, framework="np") as file:
            feeds = {spec.name: np.array(file.get_tensor(spec.name)) for spec in specs}
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise BundleError(f"{path}: expected the decoder's LoRA matrices, found {error}; export again") from error
    for spec in specs:
        if feeds[spec.name].shape != spec.shape or feeds[spec.name].dtype != numpy_dtype(spec):
            found = describe_array(feeds[spec.name])
            raise BundleError(f"{path}: expected {spec.name} as {describe(spec)}, found {found}; export again")
    return feeds
