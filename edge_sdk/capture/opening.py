"""Open a source by name: a file or pattern as a `Source` whose first frame is decoded, a camera as a `LiveSource`.

GStreamer is imported by name, so that importing the capture package costs nothing and a missing GStreamer is one clear
error when a source is opened.
"""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import cast

import msgspec

from edge_sdk.capture.attempts import Attempts
from edge_sdk.capture.codecs import CODECS, Codec, Container, Decoder, codec_of, container_of, install_command
from edge_sdk.capture.feed import Feed
from edge_sdk.capture.live import LiveSource
from edge_sdk.capture.live_pipelines import LivePlan
from edge_sdk.capture.pipelines import (
    ORIENTATIONS,
    UPRIGHT,
    FilePlan,
    file_text,
    pattern_text,
    untagged_colorimetry,
)
from edge_sdk.capture.player import Media, Player, PlayerModule, TooLargeError
from edge_sdk.capture.settings import CaptureSettings, SourceInfo
from edge_sdk.capture.source import Source
from edge_sdk.capture.uri import FileSource, LiveUri, PatternSource, parse_source, shown
from edge_sdk.errors import ConfigError, MissingDependencyError, SourceError

OPEN_TIMEOUT_S = 10.0
_PLAYER_MODULE = "edge_sdk.capture.gst"


def open_source(uri: str, settings: CaptureSettings) -> Source:
    """Open the file or test pattern that `uri` names; its first frame has been decoded when this returns.

    Raises `ConfigError` for an unusable name or setting, `SourceError` for a file that cannot be decoded,
    `MissingDependencyError` if GStreamer or a plugin is missing.
    """
    source = parse_source(uri)
    if isinstance(source, LiveUri):
        raise ConfigError(f"{source.uri} is a live source: open it with open_live")
    if settings.policy != "every":
        raise ConfigError(f"policy {settings.policy!r} is for live sources; a file gives every frame: use 'every'")
    if isinstance(source, FileSource):
        return _open_file(source, settings)
    return _open_pattern(source, settings)


def open_live(source: str | Feed, settings: CaptureSettings) -> LiveSource:
    """Open the camera that `source` names, or a feed that the program pushes to; returns at once, `connecting`.

    A camera that is off is not an error here: see the source's `state`. `settings.rate_hz` is not used, because frames
    are taken when they are asked for. Raises `ConfigError` for an unusable name or setting, or a feed that is in use;
    `MissingDependencyError` if GStreamer or a plugin is missing.
    """
    feed = source if isinstance(source, Feed) else None
    parsed = parse_source(source) if isinstance(source, str) else source.source
    if not isinstance(parsed, LiveUri):
        raise ConfigError(f"{parsed.uri} is not a live source: open it with open_source")
    if settings.policy != "latest":
        raise ConfigError(f"policy {settings.policy!r} is for files; a live source cannot wait: use 'latest'")
    gst = _gst()
    plan = LivePlan(source=parsed, settings=settings, features=gst.features(), scaler=gst.scaler())
    gst.check_live(plan)
    return LiveSource(Attempts(gst, plan, feed))


def live_uri(source: str | Path | Feed) -> str | None:
    """The URI of a source for `open_live`, without credentials; None for any other source.

    Raises `ConfigError` for a name that cannot be parsed.
    """
    parsed = source.source if isinstance(source, Feed) else parse_source(str(source))
    return parsed.uri if isinstance(parsed, LiveUri) else None


def is_live(source: str | Path | Feed) -> bool:
    """Whether `source` is for `open_live`. Raises `ConfigError` for a name that cannot be parsed."""
    return live_uri(source) is not None


def refuse_live(source: str | Path | Feed) -> None:
    """Raise `ConfigError` for a live source, for callers that need a source with an end."""
    uri = live_uri(source)
    if uri is not None:
        raise ConfigError(
            f"{uri}: expected a file or test pattern, found a live source, which has no end; watch it with "
            "`edge-sdk run`, and ask about its events with Unit.explain"
        )


def _gst() -> PlayerModule:
    return cast(PlayerModule, import_module(_PLAYER_MODULE))


def _open_pattern(source: PatternSource, settings: CaptureSettings) -> Source:
    gst = _gst()
    player = gst.play(pattern_text(source, settings, gst.scaler()), None, OPEN_TIMEOUT_S)
    return Source(player, _info(source.uri, player), settings, ())


def _open_file(source: FileSource, settings: CaptureSettings) -> Source:
    _check_file(source.path)
    gst = _gst()
    try:
        return _play_file(gst, source, settings)
    except SourceError as error:
        raise SourceError(f"{source.path}: expected a video file, but {error}") from error


def _play_file(gst: PlayerModule, source: FileSource, settings: CaptureSettings) -> Source:
    """Try the decoders in order: one that starts may still refuse the stream, as hardware does for unusual profiles."""
    deadline_s = time.monotonic() + OPEN_TIMEOUT_S
    media = gst.describe(source.path, OPEN_TIMEOUT_S)
    codec = _codec(media)
    container = container_of(media.container) or Container(media=media.container)
    refused: list[str] = []
    for decoder in _candidates(gst, codec, settings):
        plan = FilePlan(container=container, codec=codec, decoder=decoder, settings=settings, scaler=gst.scaler())
        try:
            player, played = _play_rightly(gst, source.uri, plan, deadline_s)
        except TooLargeError:
            raise
        except SourceError as error:
            refused.append(f"{decoder.element}: {error}")
        else:
            return Source(player, _info(source.uri, player, played), settings, tuple(refused))
    raise SourceError(f"its {codec.name} track cannot be decoded ({'; '.join(refused)})")


def _play_rightly(gst: PlayerModule, uri: str, plan: FilePlan, deadline_s: float) -> tuple[Player, FilePlan]:
    """Play the file, upright and in the right colours; returns the player and the plan that it plays.

    Only the first picture shows that pictures are rotated, or do not say how their colour is coded. The pipeline is
    then rebuilt, which costs time for such files alone.
    """
    player = gst.play(file_text(plan), uri, _left_s(deadline_s))
    told, coloured = player.info, plan.settings.pixels == "rgb"
    right = msgspec.structs.replace(
        plan,
        orientation=ORIENTATIONS.get(told.orientation, UPRIGHT),
        colorimetry="" if told.tagged or not coloured else untagged_colorimetry(full_range=told.full_range),
    )
    if right == plan:
        return player, plan
    player.close()
    return gst.play(file_text(right), uri, _left_s(deadline_s)), right


def _left_s(deadline_s: float) -> float:
    """Time until the deadline, at least a second, so that the last decoder gets a chance."""
    return max(1.0, deadline_s - time.monotonic())


def _codec(media: Media) -> Codec:
    """The codec of the first track that can be decoded here. Raises `SourceError` if there is none."""
    for track in media.tracks:
        codec = codec_of(track)
        if codec is not None:
            return codec
    video = [track for track in media.tracks if track.startswith(("video/", "image/"))]
    if not video:
        found = ", ".join(media.tracks) or "no track at all"
        raise SourceError(f"it has no video track (found: {found}); give the file that holds the pictures")
    names = ", ".join(known.name for known in CODECS)
    raise SourceError(f"its video is {video[0]}, which is not among {names}: convert it to one of them")


def _candidates(gst: PlayerModule, codec: Codec, settings: CaptureSettings) -> list[Decoder]:
    """The decoders to try. Raises `ConfigError` if the named one does not work, `MissingDependencyError` if none do."""
    usable = gst.decoders(codec)
    if settings.decoder is not None:
        usable = [decoder for decoder in usable if decoder.element == settings.decoder]
        if not usable:
            known = ", ".join(decoder.element for decoder in codec.decoders)
            raise ConfigError(f"no decoder {settings.decoder!r} works here for {codec.name}; known: {known}")
    if not usable:
        package = next(decoder.package for decoder in codec.decoders if not decoder.hardware)
        raise MissingDependencyError(f"no decoder for {codec.name} here; run: {install_command(package)}")
    return usable


def _info(uri: str, player: Player, plan: FilePlan | None = None) -> SourceInfo:
    """What is known about a file played by `plan`, or about a test pattern, which has no plan."""
    orientation = plan.orientation if plan else UPRIGHT
    width, height = player.info.width, player.info.height
    return SourceInfo(
        uri=uri,
        duration_s=player.duration_s,
        start_time_s=player.start_clock_s if plan and plan.container.keeps_clock else player.start_s,
        width=height if orientation.swaps_sides else width,
        height=width if orientation.swaps_sides else height,
        codec=plan.codec.name if plan else "raw",
        decoder=plan.decoder.element if plan else "",
        rate_hz=player.info.rate_hz,
        rotation_deg=orientation.rotation_deg,
    )


def _check_file(path: str) -> None:
    """Check what can be checked without a pipeline. Raises `SourceError`."""
    file = Path(path)
    try:
        if not file.exists():
            raise SourceError(f"{shown(path)}: no such file; check the path")
        if not file.is_file():
            raise SourceError(f"{path}: expected a video file, found a folder or device; name one file in it")
        with file.open("rb") as stream:
            empty = not stream.read(1)
    except OSError as error:
        raise SourceError(
            f"{shown(path)}: cannot be read ({error.strerror}); check its name and permissions"
        ) from error
    if empty:
        raise SourceError(f"{path}: the file is empty (0 bytes); the recording or copy did not finish; copy it again")
