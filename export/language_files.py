"""Write the files of a language bundle that are not graphs: embedding table, tokenizer, prompts, LoRA matrices.

Tables and matrices are written piece by piece, so that none is held in memory whole.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from edge_sdk.bundle.manifest_language import Language
from edge_sdk.errors import BundleError, CheckpointError
from edge_sdk.export.adapters import Adapter
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.config_file import Section, read_json
from edge_sdk.export.graphs.decoder_io import DecoderForm, linear_sizes, lora_names
from edge_sdk.export.graphs.lora import lora_inputs
from edge_sdk.export.layouts import EMBEDDING
from edge_sdk.export.model_config import TextConfig
from edge_sdk.export.shards import finite
from edge_sdk.export.tokenizer import tokenizer_json
from edge_sdk.reasoning.prompt import Prompt
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import TASKS
from edge_sdk.types import DType

FOLDER = "language"
TOKENIZER, PROMPTS, TABLE = f"{FOLDER}/tokenizer.json", f"{FOLDER}/prompts.json", f"{FOLDER}/embed_tokens.bin"

_ROWS = 1 << 13
_SAFETENSORS = {"float32": "F32", "float16": "F16"}
# VideoLLaMA3's constants, for a checkpoint without preprocessor settings, such as CrashChat's merged folders.
_HALF = (0.5, 0.5, 0.5)

OnBytes = Callable[[int], None]


def write_table(weights: Weights, dtype: DType, path: Path, on_bytes: OnBytes) -> None:
    """Write the token embedding table row by row. Raises `CheckpointError` for a value that `dtype` cannot hold."""
    done = 0
    with path.open("wb") as file:
        for rows in weights.tensor(EMBEDDING).split(_ROWS):
            done += _write(file, finite(rows.to(getattr(torch, dtype)), f"{EMBEDDING} as {dtype}"))
            on_bytes(done)


def write_text_files(checkpoint: Path, language: Language, folder: Path) -> None:
    """Write tokenizer and prompts (the text and the ids of each task's question) below `folder`.

    Raises `CheckpointError` for tokenizer files that do not belong to these weights.
    """
    (folder / TOKENIZER).write_text(tokenizer_json(checkpoint), encoding="utf-8", newline="\n")
    try:
        tokenizer = Tokenizer.open(folder / TOKENIZER)
        tokenizer.agree(language.image_token, language.end_tokens)
    except BundleError as error:
        raise CheckpointError(f"{checkpoint}: the tokenizer's files do not fit config.json: {error}") from error
    if tokenizer.size > language.embedding.vocab:
        raise CheckpointError(
            f"{checkpoint / 'config.json'}: expected a vocab_size of at least {tokenizer.size}, as many as the "
            f"tokenizer has ids, found {language.embedding.vocab}; take the files from one folder"
        )
    prompt = Prompt(tokenizer)
    questions = {task.id: {"text": task.prompt, "ids": prompt.question(task.prompt).tolist()} for task in TASKS}
    (folder / PROMPTS).write_text(json.dumps(questions, indent=1) + "\n", encoding="utf-8", newline="\n")


def lora_size_bytes(config: TextConfig, form: DecoderForm) -> int:
    """Size in bytes of the LoRA file for a decoder of `form`."""
    values = sum(math.prod(shape) for _, shape in _lora_shapes(config, form))
    return 8 + len(_lora_header(config, form)) + values * _item_bytes(form.dtype)


def write_lora(adapter: Adapter, config: TextConfig, form: DecoderForm, path: Path, on_bytes: OnBytes) -> None:
    """Write the values of a decoder's LoRA inputs as safetensors, one tensor at a time.

    Raises as `lora_inputs`. Format: README of github.com/huggingface/safetensors.
    """
    text = _lora_header(config, form)
    done = 0
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, value in lora_inputs(adapter, config, form):
            done += _write(file, value)
            on_bytes(done)


def pixel_constants(checkpoint: Path) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of pixels in 0..1, by channel, from the checkpoint's preprocessor settings.

    Raises `CheckpointError` for settings that are not three numbers each.
    """
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        file = checkpoint / name
        if file.is_file():
            section = Section(file, read_json(file))
            return _three(section, "image_mean"), _three(section, "image_std")
    return _HALF, _HALF


def _three(section: Section, key: str) -> tuple[float, float, float]:
    found = section.get(key)
    if found is None:
        return _HALF
    if not isinstance(found, list) or len(found) != 3 or not all(isinstance(item, float | int) for item in found):
        raise section.wrong(f"{key} must be three numbers", found)
    return float(found[0]), float(found[1]), float(found[2])


def _lora_header(config: TextConfig, form: DecoderForm) -> bytes:
    """Names, types, shapes and offsets, in the order of the values; padded so that the values are aligned."""
    header: dict[str, object] = {}
    end = 0
    for name, shape in _lora_shapes(config, form):
        begin, end = end, end + math.prod(shape) * _item_bytes(form.dtype)
        header[name] = {"dtype": _SAFETENSORS[form.dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def _lora_shapes(config: TextConfig, form: DecoderForm) -> Iterator[tuple[str, tuple[int, int]]]:
    for layer in range(config.layers):
        for linear in form.linears:
            inputs, outputs = linear_sizes(config)[linear]
            a, b = lora_names(layer, linear)
            yield a, (inputs, form.lora_rank)
            yield b, (form.lora_rank, outputs)


def _item_bytes(dtype: DType) -> int:
    itemsize: int = getattr(torch, dtype).itemsize
    return itemsize


def _write(file: BinaryIO, values: Tensor) -> int:
    stored = values.contiguous().view(torch.uint8).numpy()
    file.write(stored.data)
    return stored.nbytes
