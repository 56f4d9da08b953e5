"""The committed plans: all pairs are there, the product's own in full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from edge_sdk.benchmarks.plans import CHOICES, SHOWN, TARGETS
from edge_sdk.hardware.plan import Plan


def test_every_pair_has_a_line_and_the_products_own_are_told_in_full(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "edge_sdk.benchmarks.plans", "--out", str(tmp_path)], check=True)
    found = msgspec.json.decode((tmp_path / "plans.json").read_bytes(), type=list[Plan])
    assert {(p.model, p.precision["decoder"], p.target) for p in found} == {(*c, t) for c in CHOICES for t in TARGETS}
    text = (tmp_path / "plans.md").read_text(encoding="utf-8")
    assert text.count("\n| videollama3-") == len(found)
    assert text.count("```") == 2 * len(SHOWN)
    nano = next(p for p in found if (p.model, p.precision["decoder"], p.target) == SHOWN[0])
    assert f"| videollama3-2b | w4a16 | orin-nano-8gb | {nano.rest_mb:,.0f} | {nano.peak_mb:,.0f} |" in text
    assert f"  every answer {nano.clip_s:.1f} s after a whole clip is given" in text
