"""The C++ core of the SDK."""

from collections.abc import Sequence
import enum
from typing import Annotated, overload

import numpy
from numpy.typing import NDArray


def write_planes(now: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], earlier: Sequence[Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)]], out: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu')]) -> None:
    """
    Write luma and signed motion planes of `now [h, w]` against `earlier` into `out [1 + n, h, w]`.
    """

class YuvMatrix(enum.Enum):
    """Which luma weights a picture was coded with."""

    bt601 = 0

    bt709 = 1

class YuvRange(enum.Enum):
    """Whether black is 16 and white 235, or 0 and 255."""

    limited = 0

    full = 1

class VisionInput:
    """Pictures of one size to patches of another."""

    def __init__(self, source_width: int, source_height: int, target_width: int, target_height: int, patch: int, threads: int) -> None: ...

    def from_rgb(self, pixels: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), device='cpu', writable=False)], out: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu')]) -> None:
        """Write the patches of `pixels [h, w, 3]` into `out [patches, values]`."""

    def from_nv12(self, luma: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), device='cpu', writable=False)], chroma: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), device='cpu', writable=False)], matrix: YuvMatrix, range: YuvRange, out: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu')]) -> None:
        """
        Write the patches of `luma [h, w]` and `chroma [ceil(h / 2), ceil(w / 2), 2]` into `out [patches, values]`.
        """

@overload
def normalise(patches: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], mean: Sequence[float], std: Sequence[float], out: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')]) -> None: ...

@overload
def normalise(patches: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], mean: Sequence[float], std: Sequence[float], out: Annotated[NDArray[numpy.float16], dict(shape=(None, None), order='C', device='cpu')]) -> None:
    """
    Write (x / 255 - mean) / std of `patches [patches, values]` by channel into `out`.
    """

def sum_changes(a: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], b: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], out: Annotated[NDArray[numpy.uint32], dict(shape=(None, None), order='C', device='cpu')]) -> None:
    """
    Write sums of |a - b| for `a, b [patches, values]`, each patch in equal runs, into `out [patches, runs]`.
    """
