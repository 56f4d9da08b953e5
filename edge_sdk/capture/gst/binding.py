"""GStreamer's Python binding: the only module that imports `gi`; the other modules import it from here."""

from __future__ import annotations

import ctypes
from contextlib import suppress

from edge_sdk.capture.codecs import INTROSPECTION_PACKAGES, install_command
from edge_sdk.errors import MissingDependencyError
from edge_sdk.packages import pip_install

__all__ = ["NS", "POLL_S", "GLib", "Gst", "GstBase", "GstVideo"]

# GStreamer on Debian loads libunwind into the process. Its `_Unwind_Resume` would then be used by every extension that
# is loaded later, and crash it at its first C++ exception. So the compiler's own library is loaded first.
with suppress(OSError):
    ctypes.CDLL("libgcc_s.so.1", mode=ctypes.RTLD_GLOBAL)

try:
    import gi

    for _namespace in ("Gst", "GstBase", "GstVideo"):
        gi.require_version(_namespace, "1.0")
    from gi.repository import GLib, Gst, GstBase, GstVideo
except ImportError as _error:
    raise MissingDependencyError(
        f"reading video needs GStreamer's Python binding, which does not load ({_error}); run: "
        f"{pip_install('gst')}, or {install_command('python3-gi', *INTROSPECTION_PACKAGES)} and a virtual environment "
        "with --system-site-packages"
    ) from _error
except ValueError as _error:
    raise MissingDependencyError(
        f"reading video needs GStreamer's introspection data, which does not load ({_error}); "
        f"run: {install_command(*INTROSPECTION_PACKAGES)}"
    ) from _error

Gst.init(None)

NS = 1_000_000_000
# Waits are cut into steps of this length, so that signals are handled.
POLL_S = 0.1
