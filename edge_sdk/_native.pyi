"""The C++ core of the SDK."""

from collections.abc import Sequence
from typing import Annotated

import numpy
from numpy.typing import NDArray


def write_planes(now: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], earlier: Sequence[Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)]], out: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu')]) -> None:
    """
    Write luma and signed motion planes of `now [h, w]` against `earlier` into `out [1 + n, h, w]`.
    """
