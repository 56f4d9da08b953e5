"""Arrays behind whose last byte lies memory that nobody may touch: what goes beyond ends the process."""

from __future__ import annotations

import ctypes
import mmap
import sys
from math import prod
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

_PROT_NONE = 0


# Any: the elements are of whatever type is asked for.
def guarded(shape: tuple[int, ...], dtype: Any = np.uint8) -> NDArray[Any]:
    """A zero array that ends where a page ends, with a page behind it that can be neither read nor written.

    Skips the test where memory cannot be protected so.
    """
    if sys.platform == "win32":
        pytest.skip("expected mprotect to guard memory with, found Windows")
    size_bytes = prod(shape) * np.dtype(dtype).itemsize
    before = -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, before + mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    library = ctypes.CDLL(None, use_errno=True)
    if library.mprotect(ctypes.c_void_p(address + before), ctypes.c_size_t(mmap.PAGESIZE), _PROT_NONE) != 0:
        pytest.skip(f"expected mprotect to guard memory with, found error {ctypes.get_errno()}")
    return np.frombuffer(memory, dtype, prod(shape), before - size_bytes).reshape(shape)
