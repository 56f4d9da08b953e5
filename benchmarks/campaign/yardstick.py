"""Time transformers' own model with a checkpoint's shapes like the SDK's runtimes, in a separate process.

`python -m edge_sdk.benchmarks.campaign.yardstick ORDER ROWS`, where the order's runtime is one of `FORMS`. It is the
only module of `benchmarks` that opens torch and transformers. The weights are random: times do not depend on their
values, and the checkpoint's weights need not be read. The vision tower and the language model are separate, as in the
SDK; ids and patches come from the host, logits and tokens go back to it.

`compiled` is what transformers itself compiles when it generates: the step of one token over a static cache.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from edge_sdk.benchmarks.campaign.figures import (
    DECODE,
    PREFILL,
    VISION,
    VISION_NAMES,
    decode_row,
    prefill_row,
    repeated,
    vision_row,
)
from edge_sdk.benchmarks.campaign.limits import Cost
from edge_sdk.benchmarks.campaign.order import Order
from edge_sdk.benchmarks.campaign.rows import Group, Lines, Row, refuse
from edge_sdk.bundle.model_sizes import DecoderSizes, VisionSizes
from edge_sdk.errors import CheckpointError, EdgeError, MissingDependencyError
from edge_sdk.hardware.cuda import find_cuda_device
from edge_sdk.hardware.roofline import Precision

FORMS: dict[str, tuple[str, ...]] = {
    "transformers-eager": (*VISION_NAMES, PREFILL, DECODE),
    "transformers-sdpa": (*VISION_NAMES, PREFILL, DECODE),
    "transformers-compiled": (DECODE,),
}
"""Each way of running, and the rows that it gives."""

# Patches down and across of a frame of 364 x 196 pixels, the grid of 96 frames; tokens are windows of 2 x 2.
GRID, MERGE = (14, 26), 2
_LEAST_S = 10.0
_TEXT = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "rms_norm_eps",
    "max_position_embeddings",
    "tie_word_embeddings",
)


class Yardstick(NamedTuple):
    """The tools of a measurement. Any: torch and transformers are imported by name when the process begins."""

    torch: Any
    transformers: Any
    device: str
    dtype: Any
    precision: Precision
    config: Any
    order: Order
    lines: Lines

    @property
    def attention(self) -> str:
        """transformers' name for the attention; the compiled form uses sdpa."""
        return "eager" if self.order.runtime.endswith("eager") else "sdpa"

    # Any: as above.
    def made(self, kind: Any, config: Any) -> Any:
        """Make a model of `kind` with random weights on the device."""
        self.torch.manual_seed(0)
        before = self.torch.get_default_dtype()
        self.torch.set_default_dtype(self.dtype)
        try:
            with self.torch.device(self.device):
                model = kind(config).eval()
        finally:
            self.torch.set_default_dtype(before)
        model.set_attn_implementation(self.attention)
        return model.requires_grad_(False)


def vision_rows(yardstick: Yardstick) -> Iterator[Row]:
    """Frames per second of the vision tower."""
    torch, amounts, config = yardstick.torch, yardstick.order.amounts, yardstick.config.vision_config
    model = yardstick.made(yardstick.transformers.VideoLlama3VisionModel, config)
    sizes = VisionSizes(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        intermediate=config.intermediate_size,
        patch_values=3 * config.patch_size**2,
    )
    patches = GRID[0] * GRID[1]
    for what, frames in VISION:
        values = np.random.default_rng(0).uniform(-1, 1, (frames * patches, sizes.patch_values)).astype(np.float32)
        pixels = torch.from_numpy(values).to(yardstick.dtype)
        grid = torch.tensor([[frames, *GRID]], device=yardstick.device)
        merge = torch.tensor([MERGE], device=yardstick.device)
        once = partial(_encode, model, pixels, grid, merge)
        seconds = repeated(once, amounts.vision_warm, amounts.vision_runs)
        yield vision_row(yardstick.order, yardstick.lines, what, frames, seconds, sizes, patches, yardstick.precision)


# Any: a model and tensors.
def _encode(model: Any, pixels: Any, grid: Any, merge: Any) -> Any:
    return model(pixels.to(grid.device), grid_thw=grid, merge_sizes=merge).last_hidden_state.cpu()


def decoder_rows(yardstick: Yardstick) -> Iterator[Row]:
    """Prefill in chunks, then single tokens; the compiled form reports only the tokens."""
    amounts, text = yardstick.order.amounts, yardstick.config.text_config
    sizes = DecoderSizes(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_dim=text.hidden_size // text.num_attention_heads,
        intermediate=text.intermediate_size,
        vocab=text.vocab_size,
    )
    order, lines, cost = yardstick.order, yardstick.lines, Cost(sizes=sizes, precision=yardstick.precision)
    context = max(1, amounts.context // amounts.chunk) * amounts.chunk
    loop = _Loop(yardstick, context)
    if PREFILL in FORMS[order.runtime]:
        passes = repeated(loop.prefill, amounts.warm_passes, amounts.passes)
        yield prefill_row(order, lines, passes, cost, context, loop.how)
    else:
        loop.prefill()
    steps = repeated(loop.step, amounts.warm_tokens, amounts.tokens)
    yield decode_row(order, lines, steps, cost, context, loop.how)


class _Loop:
    """The language model with one sequence in its cache."""

    def __init__(self, yardstick: Yardstick, context: int) -> None:
        amounts = yardstick.order.amounts
        self._of, self._context, self._chunk = yardstick, context, amounts.chunk
        self._slots = context + amounts.warm_tokens + amounts.tokens
        self._model = yardstick.made(yardstick.transformers.Qwen2ForCausalLM, yardstick.config.text_config)
        self._call: Callable[..., Any] = self._model
        compiled = yardstick.order.runtime.endswith("compiled")
        self.how = self._cache_name = "StaticCache" if compiled else "DynamicCache"
        if compiled:
            self.how += ", compiled"
            mode = "reduce-overhead" if yardstick.device == "cuda" else "default"
            self._call = yardstick.torch.compile(self._model.forward, mode=mode, dynamic=False)
        ids = np.random.default_rng(0).integers(0, yardstick.config.text_config.vocab_size // 2, context)
        self._ids = yardstick.torch.from_numpy(ids)[None]
        self._cache: Any = None
        self._used = 0

    def prefill(self) -> None:
        """Prefill an empty cache with the whole context; the last logits go to the host."""
        kind, config = getattr(self._of.transformers, self._cache_name), self._of.config.text_config
        self._cache = kind(config=config, **({"max_cache_len": self._slots} if kind.__name__ == "StaticCache" else {}))
        self._used = 0
        for start in range(0, self._context, self._chunk):
            self._extend(self._model, self._ids[:, start : start + self._chunk])

    def step(self) -> None:
        """Decode one more token; its logits go to the host."""
        self._extend(self._call, self._ids[:, :1])

    # Any: a tensor.
    def _extend(self, call: Callable[..., Any], ids: Any) -> None:
        torch, device = self._of.torch, self._of.device
        positions = torch.arange(self._used, self._used + ids.shape[1], device=device)[None]
        given = {"input_ids": ids.to(device), "position_ids": positions, "past_key_values": self._cache}
        call(**given, use_cache=True, logits_to_keep=1).logits.float().cpu()
        self._used += ids.shape[1]


def open_yardstick(order: Order, lines: Lines) -> Yardstick:
    """Open torch, transformers and the checkpoint's shapes; float16 on a CUDA device, else float32 on the CPU.

    Raises `MissingDependencyError` for a package that is not installed, `CheckpointError` for a configuration of
    another model.
    """
    try:
        torch = import_module("torch")
        if order.threads:
            torch.set_num_threads(order.threads)
        _hide_broken_torchvision()
        transformers = import_module("transformers")
        for name in ("Qwen2ForCausalLM", "VideoLlama3VisionModel", "VideoLlama3Config", "StaticCache"):
            getattr(transformers, name)
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(f"transformers' own model needs torch and transformers: {error}") from error
    cuda, device = bool(torch.cuda.is_available()), find_cuda_device()
    if device is not None and not cuda:
        raise MissingDependencyError(
            f"torch {torch.__version__} does not see {device.name}; install a build of torch for CUDA {device.driver}"
        )
    return Yardstick(
        torch=torch,
        transformers=transformers,
        device="cuda" if cuda else "cpu",
        dtype=torch.float16 if cuda else torch.float32,
        precision="fp16" if cuda else "fp32",
        config=_config(Path(order.folder), transformers),
        order=order,
        lines=lines,
    )


def _hide_broken_torchvision() -> None:
    """Hide a torchvision built for another torch: it would keep transformers, which does not need it, from loading."""
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]  # makes imports report that there is none


# Any: transformers' classes.
def _config(folder: Path, transformers: Any) -> Any:
    try:
        told = json.loads((folder / "config.json").read_bytes())
        if "text_config" in told:
            return transformers.VideoLlama3Config(**told)
        text = {name: told[name] for name in _TEXT if name in told} | {"model_type": "qwen2"}
        vision = {name: value for name, value in told["vision_encoder_config"].items() if name != "model_type"}
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": told["rope_theta"]}
        return transformers.VideoLlama3Config(text_config=text, vision_config=vision)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: expected the config.json of a VideoLLaMA3: {error!r}") from error


def main(arguments: Sequence[str]) -> None:
    """Measure what the order asks for."""
    order = msgspec.json.decode(arguments[0], type=Order)
    lines = Lines(Path(arguments[1]), order.runtime, order.subject, order.seconds)
    try:
        yardstick = open_yardstick(order, lines)
    except EdgeError as error:
        refuse(error)
    names = FORMS[order.runtime]
    kinds = ((vision_rows, VISION_NAMES), (decoder_rows, (PREFILL, DECODE)))
    groups = [(work, tuple(name for name in names if name in kind)) for work, kind in kinds]
    lines.run([Group(asked, _LEAST_S, partial(work, yardstick)) for work, asked in groups if asked])


if __name__ == "__main__":
    main(sys.argv[1:])
