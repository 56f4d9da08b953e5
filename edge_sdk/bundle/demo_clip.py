"""The demo clip of a bundle, which `edge-sdk demo` shows beside its truth."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.bundle.folder import Bundle, rewrite
from edge_sdk.bundle.manifest import DemoClip
from edge_sdk.clips import read_record
from edge_sdk.errors import ConfigError

DEMO = DemoClip(video="demo/clip.mp4", record="demo/clip.json")


def with_demo(bundle: Bundle, clip: Path, out: Path) -> Bundle:
    """Write a copy of `bundle` to `out`, which must not exist, with `clip` and the record beside it as its demo.

    Raises `ConfigError` for a clip that is missing or a record that is missing or damaged, and what `rewrite` raises.
    """
    if not clip.is_file():
        raise ConfigError(f"{clip}: expected a rendered clip, found no such file; run: edge-sdk scenes render")
    record = clip.with_suffix(".json")
    read_record(record)
    return rewrite(bundle, out, demo=DEMO, extra_files={DEMO.video: clip, DEMO.record: record})
