"""What a machine must have to draw scenes and to encode them; tests that need it are skipped where it is missing."""

from __future__ import annotations

import shutil

import pytest

from edge_sdk.errors import MissingDependencyError


def need_drawing() -> None:
    """Skip without mujoco, or without a way to draw off screen."""
    pytest.importorskip("mujoco", reason="rendered scenes need mujoco (extra: scenes)")
    from edge_sdk.calibration.scenes.engine import gl_context

    try:
        gl_context()
    except MissingDependencyError as error:
        pytest.skip(str(error))


def need_encoding() -> None:
    """Skip without GStreamer's command."""
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("gst-launch-1.0 is not installed")
