"""What is said when GStreamer, its binding or a plugin is missing, tried where they really are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk.capture import gst
from edge_sdk.capture.gst.launch import launch

Make = Callable[[str], Path]

OPEN = """
import sys
from edge_sdk.capture import CaptureSettings, open_source
from edge_sdk.errors import EdgeError
try:
    with open_source(sys.argv[1], CaptureSettings(width=64, height=64)) as source:
        print(source.info.decoder, sum(1 for _ in source))
except EdgeError as error:
    print(type(error).__name__, error)
"""


def run(code: str, *words: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True, text=True, check=True, timeout=60, env=os.environ | environment,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def plugins(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """An environment in which GStreamer sees the named plugins and no other."""
    core = Path(gst.Gst.Registry.get().find_plugin("coreelements").get_filename()).parent

    def only(*names: str) -> dict[str, str]:
        for name in ("coreelements", "typefindfunctions", *names):
            link = tmp_path / f"libgst{name}.so"
            if not link.exists():
                link.symlink_to(core / link.name)
        return {
            "GST_PLUGIN_SYSTEM_PATH_1_0": str(tmp_path),
            "GST_PLUGIN_PATH_1_0": "",
            "GST_REGISTRY_1_0": str(tmp_path / "registry.bin"),
        }

    return only


SCALING = ("app", "videoconvertscale", "videorate", "videoparsersbad", "isomp4")


def test_without_the_binding_the_error_says_what_to_install(counted_clip: Make) -> None:
    said = run("import sys; sys.modules['gi'] = None\n" + OPEN, str(counted_clip("h264.mp4")))
    assert said.startswith("MissingDependencyError")
    assert "pip install 'PyGObject>=3.42,<3.52'" in said
    assert "apt-get install -y python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0" in said


def test_without_introspection_data_the_error_says_which_package(counted_clip: Make) -> None:
    hide = "import gi.repository; gi.require_version = lambda *_: (_ for _ in ()).throw(ValueError('no Gst'))\n"
    said = run(hide + OPEN, str(counted_clip("h264.mp4")))
    assert said.startswith("MissingDependencyError")
    assert "apt-get install -y gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0" in said


def test_without_a_decoder_the_error_says_which_package(
    counted_clip: Make, plugins: Callable[..., dict[str, str]]
) -> None:
    said = run(OPEN, str(counted_clip("h264.mp4")), **plugins(*SCALING))
    assert said == ("MissingDependencyError no decoder for h264 here; run: sudo apt-get install -y gstreamer1.0-libav")


def test_without_a_demuxer_the_error_says_which_package(
    counted_clip: Make, plugins: Callable[..., dict[str, str]]
) -> None:
    said = run(OPEN, str(counted_clip("h264.mkv")), **plugins(*SCALING))
    assert said == (
        "MissingDependencyError no GStreamer plugin on this machine reads video/x-matroska; "
        "run: sudo apt-get install -y gstreamer1.0-plugins-good"
    )


def test_without_another_element_the_error_says_which_package(
    counted_clip: Make, plugins: Callable[..., dict[str, str]]
) -> None:
    environment = plugins("app", "videorate", "videoparsersbad", "isomp4", "openh264")
    said = run(OPEN, str(counted_clip("h264.mp4")), **environment)
    assert said.startswith("MissingDependencyError GStreamer cannot build the pipeline")
    assert said.endswith("run: sudo apt-get install -y gstreamer1.0-plugins-base")


def test_the_next_decoder_is_taken_when_the_first_is_not_there(
    counted_clip: Make, plugins: Callable[..., dict[str, str]]
) -> None:
    assert run(OPEN, str(counted_clip("h264.mp4")), **plugins(*SCALING, "openh264")) == "openh264dec 30"


def test_probing_names_every_decoder_with_its_reason() -> None:
    rows = gst.probe()
    assert {row.codec for row in rows} == {"h264", "h265", "vp9", "mjpeg"}
    for codec in ("h264", "h265", "vp9", "mjpeg"):
        assert [row.reason for row in rows if row.codec == codec].count("used") == 1
    for row in rows:
        assert row.usable == (gst.Gst.ElementFactory.find(row.decoder) is not None)
        assert row.usable or "sudo apt-get install -y" in row.reason


def test_tuning_reaches_the_elements_that_have_the_property() -> None:
    text = "videotestsrc num-buffers=1 ! videoconvertscale name=scale ! identity name=decoder ! fakesink"
    pipeline = launch(text, None)
    scale = pipeline.get_by_name("scale")
    assert scale.get_property("matrix-mode").value_nick == "none"
    assert scale.get_property("dither").value_nick == "none"
