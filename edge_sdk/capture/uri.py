"""Source names: what follows `edge-sdk run`, read into a value.

    clip.mp4   /data/clip 1.mp4   file:///data/clip%201.mp4      files
    test://ball?duration=5&width=640&height=360&rate=30          a pattern drawn by GStreamer

A bare path is taken as it stands: a `%` in it is a percent sign, and only what has a scheme and `://` is a URI.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from edge_sdk.errors import ConfigError, UnknownNameError
from edge_sdk.types import Value

LIVE_SCHEMES = ("csi", "push", "rtsp", "v4l2")
SCHEMES = ("file", "test", *LIVE_SCHEMES)

# Patterns of videotestsrc that are the same in every run.
PATTERNS = (
    "ball", "bar", "black", "blink", "checkers-8", "circular", "gamut", "gradient", "pinwheel", "red", "smpte",
    "smpte100", "smpte75", "snow", "spokes", "white", "zone-plate",
)  # fmt: skip

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PUSH = re.compile(r"push\Z|push:")


class FileSource(Value, frozen=True, kw_only=True):
    """A video file."""

    path: str

    @property
    def uri(self) -> str:
        """The file as an absolute `file://` URI."""
        return Path(self.path).absolute().as_uri()


class PatternSource(Value, frozen=True, kw_only=True):
    """A moving test pattern: `round(duration_s * rate_hz)` frames, the same in every run."""

    pattern: str = "ball"
    duration_s: float = 10.0
    width: int = 640
    height: int = 360
    rate_hz: float = 30.0

    @property
    def uri(self) -> str:
        """The source as it can be opened again."""
        return (
            f"test://{self.pattern}?duration={self.duration_s:g}"
            f"&width={self.width}&height={self.height}&rate={self.rate_hz:g}"
        )

    @property
    def frames(self) -> int:
        """Number of frames, at least 1."""
        return max(1, round(self.duration_s * self.rate_hz))


SourceUri = FileSource | PatternSource


def parse_source(text: str) -> SourceUri:
    """The source that `text` names.

    Raises `ConfigError` for text that names none, and for live sources, which this version does not open;
    `UnknownNameError` for a scheme, pattern or option that does not exist, with those that do.
    """
    if not text or "\0" in text:
        raise ConfigError(f"expected a path or URI of a video, found {text!r}; name a file, e.g. clip.mp4")
    found = _SCHEME.match(text)
    if found is None and not _PUSH.match(text):
        return FileSource(path=text)
    scheme = found.group(1).lower() if found else "push"
    if scheme in LIVE_SCHEMES:
        raise ConfigError(f"{text}: live sources ({scheme}://) are not in this version; record to a file and open that")
    if scheme == "file":
        return _file(text)
    if scheme == "test":
        return _test(text)
    raise UnknownNameError("source scheme", scheme, list(SCHEMES))


def _file(text: str) -> FileSource:
    host, slash, path = text.split("://", 1)[1].partition("/")
    if host not in ("", "localhost") or not (slash and path):
        raise ConfigError(f"{text}: expected file:///absolute/path, found host {host!r}; give the path alone instead")
    decoded = unquote("/" + path, errors="surrogateescape")
    if "\0" in decoded:
        raise ConfigError(f"{text}: a path cannot hold a NUL byte")
    return FileSource(path=decoded)


def _test(text: str) -> PatternSource:
    parts = urlsplit(text)
    pattern = parts.netloc or "ball"
    if pattern not in PATTERNS:
        raise UnknownNameError("test pattern", pattern, list(PATTERNS))
    values = {"duration": 10.0, "width": 640.0, "height": 360.0, "rate": 30.0}
    limits = {"duration": (0.001, 86400.0), "width": (16, 7680), "height": (16, 4320), "rate": (0.1, 1000.0)}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in values:
            raise UnknownNameError("option of test://", key, list(values))
        values[key] = _number(text, key, value, *limits[key])
    return PatternSource(
        pattern=pattern,
        duration_s=values["duration"],
        width=int(values["width"]),
        height=int(values["height"]),
        rate_hz=values["rate"],
    )


def _number(text: str, key: str, value: str, low: float, high: float) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ConfigError(f"{text}: {key} must be a number, found {value!r}") from None
    if not low <= number <= high:
        raise ConfigError(f"{text}: {key} must be {low:g}..{high:g}, found {value}")
    return number
