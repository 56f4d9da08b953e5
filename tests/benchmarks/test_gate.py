"""`make bench-gate` as it is run: three promises measured side by side, in lines to read and one document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_sdk.benchmarks.gate import main


def test_a_run_says_what_it_found_and_its_exit_code_is_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--seconds", "1", "--rounds", "1"])
    *lines, document = capsys.readouterr().out.splitlines()
    gate = json.loads(document)
    assert [each["found"] > 0 for each in gate["promises"]] == [True] * 3
    assert [line.split(":")[0] for line in lines[:3]] == [each["name"] for each in gate["promises"]]
    assert [line.endswith(": ok") for line in lines[:3]] == [each["ok"] for each in gate["promises"]]
    assert code == (0 if gate["ok"] else 1)


def test_what_is_no_bundle_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bundle", str(tmp_path), "--seconds", "1"]) > 1
    assert capsys.readouterr().err.startswith("bench-gate: ")
