"""transformers, peft and accelerate, opened by name when training needs them.

Checking their types takes too long to be useful, so all are `Any` here.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from edge_sdk.errors import MissingDependencyError
from edge_sdk.packages import pip_install


@cache
def library(name: str) -> Any:
    """The package `name`, with its classes. Raises `MissingDependencyError` where it is not installed."""
    if find_spec(name) is None:
        raise MissingDependencyError(
            f"training needs the package {name!r}, which is not installed; run: {pip_install('export')}"
        )
    return import_module(name)
