"""`edge-sdk` as a user runs it: a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SDK = Path(sys.executable).with_name("edge-sdk")


def sdk(*words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, whatever it is."""
    command = [str(SDK), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=cwd, env=env)


# Any: a JSON document.
def last_json(result: subprocess.CompletedProcess[str]) -> Any:
    """What a command that went well printed as its last line."""
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])
