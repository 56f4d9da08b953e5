"""transformers and peft, importable in tests beside any torch wheel.

Both import torchvision, whose wheels register shape functions for operators that its library brings. Beside a torch
of another build that library does not load and the registration fails. Nothing here runs those operators, so their
registration alone is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch


def _import_torchvision() -> None:
    register = torch.library.register_fake

    def skipping(name: Any, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        if isinstance(name, str) and name.startswith("torchvision::"):
            return lambda function: function
        found: Callable[[Any], Any] = register(name, *args, **kwargs)
        return found

    torch.library.register_fake = skipping
    try:
        import torchvision  # noqa: F401
    finally:
        torch.library.register_fake = register


if find_spec("torchvision"):
    _import_torchvision()

import peft as peft  # noqa: E402
import transformers as transformers  # noqa: E402
