"""What the ONNX parser of TensorRT 10.3 (JetPack 6) accepts, as data: operators, element types, limits.

No support page for exactly 10.3 was available. So an operator and a type are listed only if the pages of both 9.1 and
10.6 have them: what the releases before and after accept, 10.3 accepts. The one exception is INT4, which came in
between, with 10.0 (changelog of the same repository). Types only of quantised tensors are listed with the quantisers.

`docs/operators.md` of github.com/onnx/onnx-tensorrt, for 9.1 at commit 877b5dccf5779d7d7dfa0c45b9c11cbee3b285ce, for
10.6 at 0137504e2b25fe5253bd85d26b073378fb67805b, where `docs/Changelog.md` is too. The parser of 10.3 is commit
62bdde2a04fcd53c2409cb895ee18db445b7e755 of it. The page of 10.0 gives the range of opsets.
"""

from __future__ import annotations

from collections.abc import Mapping

OPSETS = range(9, 21)
"""The opsets whose definitions are taken."""

_RETYPED = """
    Cast CastLike Constant ConstantOfShape DequantizeLinear Flatten Identity If Loop Pad Reshape Scan Shape Size Squeeze
    Transpose Unsqueeze
"""
SAME_IN_21 = frozenset(_RETYPED.split())
"""Operators that opset 21 defines anew with nothing but more element types, and with the blocks of INT4.

Only that opset has INT4, which the parser has read since 10.0; a graph with it is of opset 21 throughout.
"""

_FLOATS = frozenset({"FLOAT", "FLOAT16", "BFLOAT16"})
_NUMBERS = _FLOATS | {"INT32", "INT64"}
_ANY = _NUMBERS | {"BOOL"}

_BY_TYPES: Mapping[frozenset[str], str] = {
    _FLOATS: """
        Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv ConvTranspose Cos Cosh
        CumSum Dropout Einsum Elu Erf Exp Floor GRU Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool
        GroupNormalization HardSigmoid HardSwish InstanceNormalization IsInf LRN LSTM LayerNormalization LeakyRelu Log
        LogSoftmax LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization PRelu Pow QuantizeLinear RNN
        Reciprocal Resize Round Scan Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu
        Upsample
    """,
    _NUMBERS: """
        Abs Add ArgMax ArgMin DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less LessOrEqual Max Mean Min Mod Mul
        Neg Pad Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
        ReduceSumSquare Relu Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK
    """,
    _ANY: """
        CastLike Concat Constant Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop OneHot Reshape
        ReverseSequence Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where
    """,
    _ANY | {"UINT8"}: "Cast",
    frozenset({"BOOL"}): "And Not Or Xor",
    frozenset({"FLOAT", "FLOAT16"}): "GridSample NonMaxSuppression NonZero RoiAlign",
    frozenset({"FLOAT"}): "ConstantOfShape",
    frozenset({"INT8", "FLOAT8E4M3FN", "INT4"}): "DequantizeLinear",
}

TYPES: dict[str, frozenset[str]] = {name: types for types, names in _BY_TYPES.items() for name in names.split()}
"""Operator: the element types of its data, by their names in `onnx.proto`."""

_REDUCTIONS = [name for name in TYPES if name.startswith("Reduce")]
CONSTANTS: dict[str, int] = {"CumSum": 1, "Squeeze": 1, "Unsqueeze": 1} | dict.fromkeys(_REDUCTIONS, 1)
"""Operator: the input that must be an initialiser."""

ONE_OUTPUT = frozenset({"LayerNormalization", "MaxPool"})
"""Operators of which only the first output is there."""
