"""Store the weights of several graphs in one file beside them; weights of the same name are equal and stored once."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import ModelProto, TensorProto, numpy_helper

# Smaller tensors, such as scales and shapes, stay in the graph.
_LEAST_BYTES = 1024
_ALIGNMENT = 4096


def share_weights(models: Sequence[ModelProto], location: str) -> tuple[bytes, list[bytes]]:
    """The bytes of the file `location`, and of each of `models`, which read their large tensors from there."""
    file, places = bytearray(), dict[str, tuple[int, int]]()
    found = []
    for model in models:
        made = ModelProto()
        made.CopyFrom(model)
        for tensor in made.graph.initializer:
            raw = numpy_helper.to_array(tensor).tobytes()
            if len(raw) < _LEAST_BYTES:
                continue
            if tensor.name not in places:
                file.extend(bytes(-len(file) % _ALIGNMENT))
                places[tensor.name] = (len(file), len(raw))
                file.extend(raw)
            tensor.CopyFrom(_outside(tensor, location, *places[tensor.name]))
        onnx.checker.check_model(model, full_check=True)
        found.append(made.SerializeToString(deterministic=True))
    return bytes(file), found


def _outside(tensor: TensorProto, location: str, offset: int, length: int) -> TensorProto:
    made = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    made.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        made.external_data.add(key=key, value=str(value))
    return made
