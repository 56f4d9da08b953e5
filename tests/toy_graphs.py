"""The graphs of `toy_model`, written with onnx alone, in the contract of every exported model.

That is: the decoder's names, both dialects with their kinds of state, LoRA matrices as inputs, and one file of weights
for all graphs of a part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from toy_model import (
    EPSILON,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    LORA_LINEARS,
    MERGED,
    PATCH_VALUES,
    VISION,
    Weights,
    lora_weights,
)

from edge_sdk.bundle.manifest import Graph
from edge_sdk.types import Dialect, DType, StateSpec, TensorSpec

# From query, key, value `[1, heads, q, head_dim]` and the number of the layer to what was found.
Attention = Callable[[str, str, str, int], str]
OPSETS: dict[Dialect, int] = {"native": 24, "decomposed": 20}
LOWEST = float(np.finfo(np.float32).min)
_TYPES: dict[DType, int] = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}


class _Nodes:
    """A graph whose weights lie in the file `location`, one after the other."""

    def __init__(self, weights: Weights, location: str) -> None:
        self.weights, self.location = weights, location
        self.nodes: list[NodeProto] = []
        self.initialisers: dict[str, TensorProto] = {}

    def __call__(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"{kind}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def weight(self, name: str) -> str:
        offset, held = 0, TensorProto(name=name, data_type=TensorProto.FLOAT, dims=self.weights[name].shape)
        for before, values in self.weights.items():
            if before == name:
                break
            offset += values.nbytes
        held.data_location = TensorProto.EXTERNAL
        place = {"location": self.location, "offset": offset, "length": self.weights[name].nbytes}
        for key, value in place.items():
            held.external_data.add(key=key, value=str(value))
        self.initialisers[name] = held
        return name

    def constant(self, values: Any, dtype: type[np.generic] = np.int64) -> str:
        name = f"constant.{len(self.initialisers)}"
        self.initialisers[name] = numpy_helper.from_array(np.asarray(values, dtype), name)
        return name

    def normalised(self, x: str) -> str:
        return self("LayerNormalization", x, self.constant([1.0] * HIDDEN, np.float32), axis=-1, epsilon=EPSILON)

    def model(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], dialect: Dialect) -> ModelProto:
        graph = helper.make_graph(
            self.nodes, "toy", _values(inputs), _values(outputs), list(self.initialisers.values())
        )
        opset = helper.make_opsetid("", OPSETS[dialect])
        return helper.make_model(graph, opset_imports=[opset], ir_version=helper.find_min_ir_version_for([opset]))


def _values(specs: Sequence[TensorSpec]) -> list[ValueInfoProto]:
    return [helper.make_tensor_value_info(spec.name, _TYPES[spec.dtype], spec.shape) for spec in specs]


class Part(NamedTuple):
    """A folder `root` for graphs, and the file in it with their weights."""

    root: Path
    weights: Weights
    location: str

    @classmethod
    def write(cls, root: Path, name: str, weights: Weights) -> Part:
        (root / f"{name}.weights").write_bytes(b"".join(values.tobytes() for values in weights.values()))
        return cls(root, weights, f"{name}.weights")

    def vision(self, name: str, patches: int) -> Graph:
        """One graph for both dialects: nothing in it is new."""
        g = _Nodes(self.weights, self.location)
        shown = g("Tanh", g("MatMul", "patches", g.weight("patch_embedding")))
        windows = g("Reshape", shown, g.constant([0, patches // MERGED, MERGED, VISION]))
        g("ReduceMean", windows, g.constant([2]), output="tokens", keepdims=0)
        inputs = [_floats("patches", "frames", patches, PATCH_VALUES)]
        return self._save(g, name, inputs, [_floats("tokens", "frames", patches // MERGED, VISION)])

    def projector(self, name: str) -> Graph:
        """One graph for both dialects."""
        g = _Nodes(self.weights, self.location)
        inner = g("Tanh", g("MatMul", "tokens", g.weight("inner")))
        g("MatMul", inner, g.weight("outer"), output="embeds")
        return self._save(g, name, [_floats("tokens", "n", VISION)], [_floats("embeds", "n", HIDDEN)])

    def decoder(self, name: str, dialect: Dialect, slots: int, *, switchable: bool) -> Graph:
        """A decoder of `slots`; `switchable`: with LoRA matrices as inputs."""
        g, vocabulary = _Nodes(self.weights, self.location), self.weights["head"].shape[1]
        attention = (_native if dialect == "native" else _decomposed)(g, slots)
        places = g("Unsqueeze", g("Cast", "position_ids", to=TensorProto.FLOAT), g.constant([2]))
        angles = g("Add", g("Mul", places, g.weight("frequencies")), g.weight("phases"))
        x = g("Add", "embeds", g("Sin", angles))
        for layer in range(LAYERS):
            x = _layer(g, x, layer, attention, switchable)
        wanted = g("Gather", g("Squeeze", x, g.constant([0])), "rows", axis=0)
        g("MatMul", g.normalised(wanted), g.weight("head"), output="logits")
        stem, kept = ("present", slots) if dialect == "native" else ("new", "q")
        state = [
            StateSpec(
                input=f"past_{each}.{layer}",
                output=f"{stem}_{each}.{layer}",
                kind="alias" if dialect == "native" else "append",
                axis=2,
                index="write_index",
            )
            for layer in range(LAYERS)
            for each in ("key", "value")
        ]
        outputs = [_floats("logits", "r", vocabulary)]
        outputs += [_floats(entry.output, 1, KV_HEADS, kept, HEAD_DIM) for entry in state]
        return self._save(g, name, _decoder_inputs(slots, switchable), outputs, dialect, state)

    def _save(
        self,
        g: _Nodes,
        name: str,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        dialect: Dialect | None = None,
        state: Sequence[StateSpec] = (),
    ) -> Graph:
        model = g.model(inputs, outputs, dialect or "decomposed")
        (self.root / f"{name}.onnx").write_bytes(model.SerializeToString())
        return Graph(
            file=f"{self.root.name}/{name}.onnx",
            dialects=(dialect,) if dialect else ("native", "decomposed"),
            opset=OPSETS[dialect or "decomposed"],
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            state=tuple(state),
        )


def _floats(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=shape)


def _decoder_inputs(slots: int, switchable: bool) -> list[TensorSpec]:
    specs = [
        _floats("embeds", 1, "q", HIDDEN),
        TensorSpec(name="position_ids", dtype="int64", shape=(1, "q")),
        TensorSpec(name="mask", dtype="bool", shape=(1, 1, "q", slots)),
        TensorSpec(name="write_index", dtype="int64", shape=(1,)),
        TensorSpec(name="rows", dtype="int64", shape=("r",)),
    ]
    for layer in range(LAYERS):
        specs += [_floats(f"past_{each}.{layer}", 1, KV_HEADS, slots, HEAD_DIM) for each in ("key", "value")]
    if switchable:
        specs += [_floats(name, *values.shape) for name, values in lora_weights(0).items()]
    return specs


def _layer(g: _Nodes, x: str, layer: int, attention: Attention, switchable: bool) -> str:
    def linear(y: str, name: str) -> str:
        found = g("MatMul", y, g.weight(f"layers.{layer}.{name}"))
        if not (switchable and name in LORA_LINEARS):
            return found
        a, b = (f"lora.{layer}.{name}.{side}" for side in "ab")
        return g("Add", found, g("MatMul", g("MatMul", y, a), b))

    y = g.normalised(x)
    query, key, value = (
        g("Transpose", g("Reshape", linear(y, name), g.constant([1, -1, heads, HEAD_DIM])), perm=[0, 2, 1, 3])
        for name, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS))
    )
    found = g("Transpose", attention(query, key, value, layer), perm=[0, 2, 1, 3])
    x = g("Add", x, linear(g("Reshape", found, g.constant([1, -1, HEADS * HEAD_DIM])), "o"))
    y = g.normalised(x)
    gate = linear(y, "gate")
    return g("Add", x, linear(g("Mul", g("Mul", gate, g("Sigmoid", gate)), linear(y, "up")), "down"))


def _bias(g: _Nodes) -> str:
    return g("Where", "mask", g.constant(0.0, np.float32), g.constant(LOWEST, np.float32))


def _native(g: _Nodes, slots: int) -> Attention:
    bias = _bias(g)

    def attend(query: str, key: str, value: str, layer: int) -> str:
        kept = [
            g("TensorScatter", f"past_{name}.{layer}", new, "write_index", output=f"present_{name}.{layer}", axis=2)
            for name, new in (("key", key), ("value", value))
        ]
        return g("Attention", query, *kept, bias, scale=HEAD_DIM**-0.5)

    return attend


def _decomposed(g: _Nodes, slots: int) -> Attention:
    """Scores against the cache and against the call's own tokens, joined before the softmax."""
    bias, count = _bias(g), g("Shape", "position_ids", start=1)
    end = g("Add", "write_index", count)
    places = g.constant(list(range(slots)))
    own = g("And", g("GreaterOrEqual", places, "write_index"), g("Less", places, end))
    cached = g("Where", own, g.constant(LOWEST, np.float32), bias)
    fresh = g("Slice", bias, "write_index", end, g.constant([3]))

    def attend(query: str, key: str, value: str, layer: int) -> str:
        for name, new in (("key", key), ("value", value)):
            g("Identity", new, output=f"new_{name}.{layer}")
        # Heads that share keys are rows of one product.
        shared = g("Reshape", query, g.constant([1, KV_HEADS, -1, HEAD_DIM]))
        scaled = g("Mul", shared, g.constant(HEAD_DIM**-0.5, np.float32))
        scores = []
        for keys, allowed in ((f"past_key.{layer}", cached), (key, fresh)):
            product = g("MatMul", scaled, g("Transpose", keys, perm=[0, 1, 3, 2]))
            apart = g("Reshape", product, g("Concat", g.constant([1, HEADS]), count, g.constant([-1]), axis=0))
            scores.append(g("Add", apart, allowed))
        shares = g("Softmax", g("Concat", *scores, axis=-1), axis=-1)
        parts = []
        for begin, finish, values in ((0, slots, f"past_value.{layer}"), (slots, 2**62, value)):
            part = g("Slice", shares, g.constant([begin]), g.constant([finish]), g.constant([3]))
            width = g("Shape", part, start=3)
            rows = g("Reshape", part, g("Concat", g.constant([1, KV_HEADS, -1]), width, axis=0))
            parts.append(g("MatMul", rows, values))
        return g("Reshape", g("Add", *parts), g.constant([1, HEADS, -1, HEAD_DIM]))

    return attend
