"""Processes of one run that would not train one model are stopped before the first step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("accelerate")

SCRIPT = """
import os
import torch
from accelerate import Accelerator
from edge_sdk.errors import ConfigError
from edge_sdk.export.mini.training import check_together
from edge_sdk.toolchain import ranks

rank = int(os.environ["RANK"])
accelerator = Accelerator(cpu=True)
for step, name in ((7, "same"), (7 + rank, "same"), (7, f"clips-{rank}")):
    try:
        check_together(accelerator, step, name)
        said = "together"
    except ConfigError as error:
        said = str(error)
    with open(f"{os.path.dirname(__file__)}/said-{rank}", "a") as out:
        print(said, file=out)
ranks.leave()
assert not torch.distributed.is_initialized()
"""


def test_every_process_of_a_run_is_told_when_they_do_not_belong_together(tmp_path: Path) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    # A machine's own name need not lead anywhere.
    command += ["--local-addr", "127.0.0.1", "--rdzv-endpoint", "localhost:0", str(script)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    for rank in (0, 1):
        together, steps, clips = (tmp_path / f"said-{rank}").read_text().splitlines()
        assert together == "together"
        assert "expected processes that continue from the same step, found [7, 8]" in steps
        assert f"found 2 kinds, clips-{rank} here" in clips
