"""transformers, peft and accelerate, opened by name when training needs them.

Their types are checked too slowly to be of use, so all are `Any` here. They import torchvision where it is installed;
one built for another torch fails while it registers operators that a language model never runs. That registration
alone is skipped, since the pictures of this room come from the SDK's own capture.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from edge_sdk.errors import MissingDependencyError


@cache
def library(name: str) -> Any:
    """The package `name`, with its classes. Raises `MissingDependencyError` where it is not installed."""
    if find_spec(name) is None:
        raise MissingDependencyError(
            f"training needs the package {name!r}, which is not installed; run: pip install 'edge-sdk[export]'"
        )
    if find_spec("torchvision"):
        _import_torchvision()
    return import_module(name)


@cache
def _import_torchvision() -> None:
    register = torch.library.register_fake

    def skipping(name: Any, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        if isinstance(name, str) and name.startswith("torchvision::"):
            return lambda function: function
        found: Callable[[Any], Any] = register(name, *args, **kwargs)
        return found

    torch.library.register_fake = skipping
    try:
        import_module("torchvision")
    finally:
        torch.library.register_fake = register
