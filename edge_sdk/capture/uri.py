"""Source names, as given to `edge-sdk run`, parsed into values.

    clip.mp4   /data/clip 1.mp4   file:///data/clip%201.mp4      files
    test://ball?duration=5&width=640&height=360&rate=30          a pattern drawn by GStreamer
    rtsp://user:password@camera/stream   rtsps://camera/stream   cameras and servers on the network
    v4l2:///dev/video0?width=1280&height=720&rate=30&format=mjpeg   v4l2://0      USB cameras
    csi://0?width=1920&height=1080&rate=30                       cameras on a Jetson's CSI port

A bare path is used as it is: a `%` in it is a percent sign. Only text with a scheme and `://` is a URI. Spaces,
quotation marks and the like around a name are removed as copied by mistake, unless a file has exactly that name. Text
that names no file and looks like an address is refused, because file names are printed and an address may hold a
password. Credentials are split off when a name is parsed. No message of this module shows them; `redact` hides them in
other text, and `shown` in a source's name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from edge_sdk.errors import ConfigError, UnknownNameError
from edge_sdk.types import Value

SCHEMES = ("file", "test", "csi", "push", "rtsp", "rtsps", "v4l2")

# Patterns of videotestsrc that are the same in every run.
PATTERNS = (
    "ball", "bar", "black", "blink", "checkers-8", "circular", "gamut", "gradient", "pinwheel", "red", "smpte",
    "smpte100", "smpte75", "snow", "spokes", "white", "zone-plate",
)  # fmt: skip

CAMERA_FORMATS = ("mjpeg", "h264", "h265", "raw")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# Within other text a URL may have lost slashes, as when it was taken for a path; one letter and one slash is a drive.
_START = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?:://|(?<=[A-Za-z0-9+.-]{2}):/|(?<=rtsp):|(?<=rtsps):)", re.IGNORECASE)
_PUSH = re.compile(r"push\Z|push:")
_SLIP = re.compile(r"(rtsps?):(?!//)", re.IGNORECASE)
# Copied along with a name by mistake: blanks, quotation marks, and invisible characters such as a byte order mark.
_AROUND = "\t\n\v\f\r \u00a0\u200b\u200e\u200f\u2060\ufeff\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"
_ADDRESS = re.compile(
    r".*(?:@|://)|(?:file|test|csi|push|rtsps?|https?|v4l2)\s*(?:[:;\\]|//)", re.IGNORECASE | re.DOTALL
)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(%[^\]]+)?\]|[^:\[\]@/?]+)(:(?P<port>[0-9]{1,5}))?")
_LIMITS = {"width": (16, 16384), "height": (16, 16384), "rate": (0.1, 1000.0)}


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


class RtspSource(Value, frozen=True, kw_only=True):
    """A network camera or server. Credentials are kept out of `location`, so that no text shows them by accident."""

    location: str
    user: str = ""
    password: str = ""

    @property
    def uri(self) -> str:
        """The source without user and password, and with the values of secret-looking query keys hidden."""
        return redact(self.location)

    def __repr__(self) -> str:
        """The URI without secrets, because every value that holds a source is logged with this text."""
        return f"RtspSource({self.uri!r})"


class V4l2Source(Value, frozen=True, kw_only=True):
    """A USB or platform camera; None leaves a value to the camera. `format` is `mjpeg`, `h264`, `h265` or `raw`."""

    device: str = "/dev/video0"
    width: int | None = None
    height: int | None = None
    rate_hz: float | None = None
    format: str | None = None

    @property
    def uri(self) -> str:
        """The source as it can be opened again."""
        values = {"width": self.width, "height": self.height, "rate": self.rate_hz, "format": self.format}
        query = "&".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in values.items()
            if value is not None
        )
        return f"v4l2://{quote(self.device)}" + (f"?{query}" if query else "")


class CsiSource(Value, frozen=True, kw_only=True):
    """A camera on a Jetson's CSI port, through Argus."""

    sensor: int = 0
    width: int = 1920
    height: int = 1080
    rate_hz: float = 30.0

    @property
    def uri(self) -> str:
        """The source as it can be opened again."""
        return f"csi://{self.sensor}?width={self.width}&height={self.height}&rate={self.rate_hz:g}"


class PushSource(Value, frozen=True, kw_only=True):
    """Units or frames that the host program pushes; `format` is `h264`, `h265`, `mjpeg`, `nv12` or `rgb`.

    `width`, `height` and `rate_hz` are needed for `nv12` and `rgb` only.
    """

    name: str
    format: str
    width: int | None = None
    height: int | None = None
    rate_hz: float = 30.0

    @property
    def uri(self) -> str:
        """A name for logs and events; only the host program can open the source."""
        return f"push://{self.name}"


LiveUri = RtspSource | V4l2Source | CsiSource | PushSource
SourceUri = FileSource | PatternSource | LiveUri


def parse_source(text: str) -> SourceUri:
    """The source that `text` names.

    Raises `ConfigError` for text that names no source; `UnknownNameError`, which lists the known names, for an unknown
    scheme, pattern, option or format.
    """
    given, text = text, _bare(text)
    if not text or "\0" in text:
        raise ConfigError(f"expected a path or URI of a video, found {shown(given)!r}; name a file, e.g. clip.mp4")
    if slip := _SLIP.match(text):
        raise ConfigError(f"{slip[1]}: must be followed by //, as in rtsp://camera/stream")
    found = _SCHEME.match(text)
    if found is None and not _PUSH.match(text):
        return FileSource(path=_path(text))
    scheme = found.group(1).lower() if found else "push"
    if scheme == "push":
        raise ConfigError("push has no name: make a feed object in your program and hand it to edge_sdk.open")
    readers: dict[str, Callable[[str], SourceUri]] = {
        "file": _file,
        "test": _test,
        "rtsp": _rtsp,
        "rtsps": _rtsp,
        "v4l2": _v4l2,
        "csi": _csi,
    }
    if scheme not in readers:
        raise UnknownNameError("source scheme", scheme, [name for name in SCHEMES if name != "push"])
    return readers[scheme](text)


def _bare(text: str) -> str:
    """`text` without blanks and quotation marks around it; unchanged if a file has exactly that name."""
    bare = text.strip(_AROUND)
    return text if bare != text and _exists(text) else bare


def _path(text: str) -> str:
    """`text` as the path of a file. Raises `ConfigError` if there is no such file and it looks like an address."""
    if _ADDRESS.match(text) and not _exists(text):
        raise ConfigError(
            f"{shown(text)!r}: expected a file, found none, and an address begins with its scheme and //, as in "
            "rtsp://user:password@camera/stream; check the name"
        )
    return text


def _exists(path: str) -> bool:
    """Whether a file of that name exists. Call this only for odd names: a look-up on a network share may be slow."""
    return "\0" not in path and os.path.lexists(path)


def _file(text: str) -> FileSource:
    host, slash, path = text.split("://", 1)[1].partition("/")
    if host not in ("", "localhost") or not (slash and path):
        raise ConfigError(
            f"{shown(text)}: expected file:///absolute/path, found host {shown(host)!r}; give the path alone instead"
        )
    decoded = unquote("/" + path, errors="surrogateescape")
    if "\0" in decoded:
        raise ConfigError(f"{shown(text)}: a path cannot hold a NUL byte")
    return FileSource(path=decoded)


def _test(text: str) -> PatternSource:
    parts = urlsplit(text)
    pattern = parts.netloc or "ball"
    if pattern not in PATTERNS:
        raise UnknownNameError("test pattern", shown(pattern), list(PATTERNS))
    limits = {"duration": (0.001, 86400.0), "width": (16, 7680), "height": (16, 4320), "rate": (0.1, 1000.0)}
    values = {"duration": 10.0, "width": 640.0, "height": 360.0, "rate": 30.0}
    for key, value in _options(text, parts.query, list(limits)).items():
        values[key] = _number(text, key, value, *limits[key])
    return PatternSource(
        pattern=pattern,
        duration_s=values["duration"],
        width=int(values["width"]),
        height=int(values["height"]),
        rate_hz=values["rate"],
    )


def _rtsp(text: str) -> RtspSource:
    """Parse RTSP: before the authority's last `@` are user and password; all else goes to the server unchanged."""
    told = redact(text)
    scheme, rest = text.split("://", 1)
    if re.search(r"[\x00-\x20\x7f]", rest):
        raise ConfigError(f"{told!r}: a URL holds no spaces or control characters; write a space as %20")
    userinfo, at, host = _authority(rest).rpartition("@")
    if not host:
        raise ConfigError(f"{told}: the host is missing; write e.g. rtsp://user:password@camera/stream")
    known = _HOST.fullmatch(host)
    if known is None or int(known["port"] or 1) not in range(1, 65536):
        raise ConfigError(
            f"{told}: expected HOST or HOST:PORT (IPv6 as [::1]:554) after the credentials; in a password, "
            "write / as %2F, ? as %3F, % as %25"
        )
    user, _, password = userinfo.partition(":")
    location = f"{scheme.lower()}://{rest[len(userinfo) + len(at) :]}"
    return RtspSource(location=location, user=unquote(user), password=unquote(password))


def _v4l2(text: str) -> V4l2Source:
    name, _, query = text.split("://", 1)[1].partition("?")
    device = f"/dev/video{int(name)}" if name.isascii() and name.isdigit() else unquote(name)
    if not device.startswith("/") or "\0" in device:
        raise ConfigError(
            f"{shown(text)}: expected v4l2:///dev/video0 or v4l2://0; `v4l2-ctl --list-devices` names cameras"
        )
    values = _options(text, query, ["width", "height", "rate", "format"])
    form = values.pop("format", None)
    if form is not None and form not in CAMERA_FORMATS:
        raise UnknownNameError("format of v4l2://", shown(form), list(CAMERA_FORMATS))
    width, height, rate_hz = _geometry(text, values)
    return V4l2Source(device=device, width=width, height=height, rate_hz=rate_hz, format=form)


def _csi(text: str) -> CsiSource:
    name, _, query = text.split("://", 1)[1].partition("?")
    if not re.fullmatch(r"[0-9]{1,2}", name or "0"):
        raise ConfigError(f"{shown(text)}: expected the number of a sensor, as in csi://0")
    width, height, rate_hz = _geometry(text, _options(text, query, ["width", "height", "rate"]))
    return CsiSource(sensor=int(name or "0"), width=width or 1920, height=height or 1080, rate_hz=rate_hz or 30.0)


def _options(text: str, query: str, known: list[str]) -> dict[str, str]:
    """Keys and values of a query. Raises `UnknownNameError` for a key that is not known."""
    values = dict(parse_qsl(query, keep_blank_values=True))
    for key in values:
        if key not in known:
            raise UnknownNameError(f"option of {text.split('://')[0].lower()}://", shown(key), known)
    return values


def _geometry(text: str, values: Mapping[str, str]) -> tuple[int | None, int | None, float | None]:
    """Width, height and rate, each None if it is not given."""
    found = {key: _number(text, key, value, *_LIMITS[key]) for key, value in values.items()}
    for key in ("width", "height"):
        if key in found and found[key] != int(found[key]):
            raise ConfigError(f"{shown(text)}: {key} must be a whole number, found {shown(values[key])}")
    width, height = (int(found[key]) if key in found else None for key in ("width", "height"))
    return width, height, found.get("rate")


def _number(text: str, key: str, value: str, low: float, high: float) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ConfigError(f"{shown(text)}: {key} must be a number, found {shown(value)!r}") from None
    if not low <= number <= high:
        raise ConfigError(f"{shown(text)}: {key} must be {low:g}..{high:g}, found {value}")
    return number


# URIs of these schemes hold no secrets, and their paths may contain an @.
_OPEN_SCHEMES = ("file", "test", "v4l2", "csi")
_BRACKETED = re.compile(r"^\[[0-9A-Fa-f:.]+(%[^\]]+)?\](:[0-9]+)?")
# Key and value pairs of queries, and of paths such as /user=admin_password=x_channel=1 that many recorders use. A value
# extends to the next key, and may contain / or ?.
_PAIR = re.compile(
    r"(?:(?<![^&;?/\s\"])|(?=_[A-Za-z]+=))(?P<key>[^=&;?/\s\"]+)=(?P<value>(?:(?!_[A-Za-z]+=)[^&;\s\"])*)"
)
_SECRET_PART = re.compile(r"pass|pwd|psw|token|secret|auth|cred|user|usr|login|sign|session|key$")
_SECRET_KEYS = ("u", "p", "pw", "sig", "sid", "pin")
HIDDEN = "***"


def redact(text: str) -> str:
    """`text` with the secrets of every URL in it hidden: user and password, and values of keys that look secret.

    If in doubt, it hides too much: a password may contain any character, so everything before the last `@` of a URL is
    hidden if it could be credentials. For example, `rtsp://camera:554/live@1` could be user `camera` with password
    `554/live`.
    """
    parts, done = [], 0
    while found := _START.search(text, done):
        parts.append(text[done : found.end()])
        done = found.end()
        if found[1].lower() not in _OPEN_SCHEMES:
            url = _url(text[done:])
            parts.append(_redacted(url))
            done += len(url)
    return "".join([*parts, text[done:]])


def shown(name: str) -> str:
    """A source's name that is safe to print even if it could not be parsed.

    Everything before its last `@` except the scheme is hidden, and so are the values of keys that look secret.
    """
    scheme = _SCHEME.match(name)
    kept = scheme[0] if scheme else ""
    _, at, tail = name[len(kept) :].rpartition("@")
    return f"{kept}{HIDDEN}@{_PAIR.sub(_hidden, tail)}" if at else kept + _PAIR.sub(_hidden, tail)


def _url(after: str) -> str:
    """The rest of a URL at the beginning of `after`, up to the first space or quotation mark.

    If that is before the host, as with a space in a password, the URL extends to the end of the line.
    """
    line = after.partition("\n")[0]
    url = re.split(r"[\s\"]", line, maxsplit=1)[0]
    authority = _authority(url)
    unfinished = ":" in _BRACKETED.sub("", authority) and _HOST.fullmatch(authority) is None
    return line if unfinished and "@" not in url else url


def _redacted(url: str) -> str:
    head, at, tail = url.rpartition("@")
    if at and ("@" in _authority(url) or ":" in _BRACKETED.sub("", head)):
        return f"{HIDDEN}@{_PAIR.sub(_hidden, tail)}"
    return _PAIR.sub(_hidden, url)


def _authority(url: str) -> str:
    return re.split(r"[/?]", url, maxsplit=1)[0]


def _hidden(pair: re.Match[str]) -> str:
    key = re.sub(r"[^a-z0-9]", "", unquote(pair["key"]).lower())
    secret = key in _SECRET_KEYS or _SECRET_PART.search(key)
    return f"{pair['key']}={HIDDEN}" if secret and pair["value"] else pair[0]
