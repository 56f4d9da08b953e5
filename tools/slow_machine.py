"""A pytest plugin for machines far slower than any target, such as an emulated one: `pytest -p slow_machine`.

Guards against hanging wait `PATIENCE` times longer, but for those by an event, which the package itself sleeps by; what
is asserted stays as it is. Tests that assert times are marked `alone` and are left out by that.
"""

from __future__ import annotations

import inspect
import subprocess
import threading
from typing import Any

PATIENCE = 20


def pytest_configure() -> None:
    """Stretch every limit on waiting for a process or a thread."""
    for owner, name in (
        (subprocess.Popen, "communicate"),
        (subprocess.Popen, "wait"),
        (threading.Thread, "join"),
    ):
        setattr(owner, name, _patient(getattr(owner, name)))


# Any: it passes on whatever the method takes and gives.
def _patient(method: Any) -> Any:
    signature = inspect.signature(method)

    def wait(*arguments: Any, **named: Any) -> Any:
        given = signature.bind(*arguments, **named)
        if given.arguments.get("timeout") is not None:
            given.arguments["timeout"] *= PATIENCE
        return method(*given.args, **given.kwargs)

    return wait
