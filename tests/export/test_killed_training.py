"""Trainings whose process is killed by SIGKILL, twice, end with the weights of one that was not, to the bit.

With one thread an operator nothing of a training is left to chance; so any difference is something that a checkpoint
does not hold, or holds wrongly.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import killed_training
import pytest
import torch

SCRIPT = Path(killed_training.__file__)
# What each process dies of, one after the other. The student: half way through the checkpoint of its second epoch; five
# steps after the checkpoint of its last stage (2 steps again, 2 late ones, 1 line of the head, 65 steps). The mini: in
# its third stage; half way through a checkpoint of its LoRA (after two of the stage that was cut).
DEATHS = {"student": ("save:2", "step:70"), "mini": ("step:8", "save:4")}


def run(what: str, folder: Path, *death: str) -> int:
    """Start or go on with a training; how its process ended."""
    command = [sys.executable, str(SCRIPT), what, str(folder), *death]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=SCRIPT.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
@pytest.mark.parametrize("what", ["student", "mini"])
def test_a_training_that_is_killed_goes_on_and_ends_as_one_that_was_not(what: str, tmp_path: Path) -> None:
    assert run(what, tmp_path / "whole") == 0
    kept = []
    for death in DEATHS[what]:
        assert run(what, tmp_path / "parts", death) == -signal.SIGKILL
        # What a half written file is called begins with a dot.
        kept.append({path.name for path in (tmp_path / "parts" / "work").glob("[!.]*.pt")})
    # Each process had come further than the one before, and neither to the end.
    assert kept[0] < kept[1]
    assert not (tmp_path / "parts" / "end.pt").exists()
    assert run(what, tmp_path / "parts") == 0
    whole, parts = (torch.load(tmp_path / each / "end.pt", weights_only=True) for each in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    unlike = [name for name, value in whole.items() if not torch.equal(parts[name], value)]
    assert not unlike
