"""CrashChat-mini, taken out of the demo bundle as checkpoints, is what that bundle was made from."""

from __future__ import annotations

from pathlib import Path

from command_line import last_json, sdk
from mini_checkpoint import write_checkpoints

from edge_sdk.bundle import Bundle, default_bundle


def test_its_export_has_the_bundles_weights_to_the_bit(tmp_path: Path) -> None:
    demo = Bundle.open(default_bundle())
    base, *adapters = write_checkpoints(demo, tmp_path)
    words = [word for each in adapters for word in ("--adapter", f"{each.name}={each}")]
    out = tmp_path / "bundle"
    last_json(sdk("export", str(base), "--out", str(out), "--recipe", "crashchat-mini", *words, "--json"))
    weights = [name for name in demo.manifest.files if name.endswith(".weights") or "/lora." in name]
    assert len(weights) == 6
    for name in weights:
        assert Bundle.open(out).manifest.files[name].sha256 == demo.manifest.files[name].sha256, name
