"""Names, shapes and state of the decoder's inputs and outputs: one contract for the module, the graphs and a device.

The cache has a fixed number of slots. A call of q tokens writes the slots `write_index .. write_index + q`, and `mask`
tells for each of its tokens which slots it may attend; `mask[..., write_index:write_index + q]` covers the call's own
tokens. q is padded to what the runtime was built for: a padded row attends only slot `write_index`, and no token may
attend the row's own slot until it is overwritten. So a prefix must leave q slots free.

LoRA matrices are in the order of multiplication, x·a·b, with the adapter's scale already in b.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.export.layouts import LINEARS
from edge_sdk.export.model_config import TextConfig
from edge_sdk.types import Dialect, DType, StateSpec, TensorSpec, Value

TOKENS, ROWS = "q", "r"
_SLOT_AXIS = 2


class DecoderForm(Value, frozen=True, kw_only=True):
    """Form of one of the decoder's graphs: dialect, cache slots, element type, and LoRA inputs.

    `lora_rank` is the rank of the LoRA inputs, 0 for a graph without; `lora_linears` are the linears that have them.
    """

    dialect: Dialect
    slots: int
    dtype: DType = "float32"
    lora_rank: int = 0
    lora_linears: tuple[str, ...] = tuple(LINEARS)

    @property
    def linears(self) -> tuple[str, ...]:
        """The linears with LoRA inputs, none for a graph without."""
        return self.lora_linears if self.lora_rank else ()


def linear_sizes(config: TextConfig) -> dict[str, tuple[int, int]]:
    """Number of inputs and of outputs of each of a layer's linears."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return {
        "q": (config.hidden, queries),
        "k": (config.hidden, keys),
        "v": (config.hidden, keys),
        "o": (queries, config.hidden),
        "gate": (config.hidden, config.intermediate),
        "up": (config.hidden, config.intermediate),
        "down": (config.intermediate, config.hidden),
    }


def lora_names(layer: int, linear: str) -> tuple[str, str]:
    """Names of A `[in, rank]` and of B `[rank, out]`."""
    return f"lora.{layer}.{linear}.a", f"lora.{layer}.{linear}.b"


def past_names(layer: int) -> tuple[str, str]:
    """Names of the cached keys and values, inputs `[1, kv_heads, slots, head_dim]`."""
    return f"past_key.{layer}", f"past_value.{layer}"


def kept_names(layer: int, dialect: Dialect) -> tuple[str, str]:
    """Names of the outputs for the cache: all of it in the native dialect, this call's rows in the decomposed one."""
    stem = "present" if dialect == "native" else "new"
    return f"{stem}_key.{layer}", f"{stem}_value.{layer}"


def decoder_inputs(config: TextConfig, form: DecoderForm) -> tuple[TensorSpec, ...]:
    """The inputs in the graph's order."""
    cache = (1, config.kv_heads, form.slots, config.head_dim)
    specs = [
        TensorSpec(name="embeds", dtype=form.dtype, shape=(1, TOKENS, config.hidden)),
        TensorSpec(name="position_ids", dtype="int64", shape=(1, TOKENS)),
        TensorSpec(name="mask", dtype="bool", shape=(1, 1, TOKENS, form.slots)),
        TensorSpec(name="write_index", dtype="int64", shape=(1,)),
        TensorSpec(name="rows", dtype="int64", shape=(ROWS,)),
    ]
    layers = range(config.layers)
    specs += _named([name for layer in layers for name in past_names(layer)], form.dtype, cache)
    sizes = linear_sizes(config)
    for layer in layers:
        for linear in form.linears:
            a, b = lora_names(layer, linear)
            inputs, outputs = sizes[linear]
            specs.append(TensorSpec(name=a, dtype=form.dtype, shape=(inputs, form.lora_rank)))
            specs.append(TensorSpec(name=b, dtype=form.dtype, shape=(form.lora_rank, outputs)))
    return tuple(specs)


def decoder_outputs(config: TextConfig, form: DecoderForm) -> tuple[TensorSpec, ...]:
    """The outputs in the graph's order: `logits`, then keys and values by layer."""
    length = form.slots if form.dialect == "native" else TOKENS
    kept = [name for layer in range(config.layers) for name in kept_names(layer, form.dialect)]
    logits = TensorSpec(name="logits", dtype="float32", shape=(ROWS, config.vocab))
    return (logits, *_named(kept, form.dtype, (1, config.kv_heads, length, config.head_dim)))


def decoder_state(config: TextConfig, dialect: Dialect) -> tuple[StateSpec, ...]:
    """The cache's outputs paired with the inputs that they feed in the next call."""
    return tuple(
        StateSpec(
            input=past,
            output=kept,
            kind="alias" if dialect == "native" else "append",
            axis=_SLOT_AXIS,
            index="write_index",
        )
        for layer in range(config.layers)
        for past, kept in zip(past_names(layer), kept_names(layer, dialect), strict=True)
    )


def _named(names: Sequence[str], dtype: DType, shape: tuple[int | str, ...]) -> list[TensorSpec]:
    return [TensorSpec(name=name, dtype=dtype, shape=shape) for name in names]
