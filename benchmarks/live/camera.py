"""A camera to test with: an RTSP server whose pictures show when they were drawn, and which can be told to misbehave.

It runs as a process with a `Stream` in JSON as argument; `server.py` beside it starts it. Its first line on stdout is
`{"port": N}`. Each line on stdin is a command, answered by `{}` or `{"error": …}`. The process ends when stdin ends, so
that no server outlives its test.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any, cast

import gi
import msgspec
import numpy as np

from edge_sdk.benchmarks.live import stamp
from edge_sdk.benchmarks.live.server import VIEWS, Stream
from edge_sdk.capture.gst.binding import GLib, Gst

gi.require_version("GstRtspServer", "1.0")
from gi.repository import GstRtspServer  # noqa: E402 - the version must be chosen first

ROLE = "viewer"
ENCODERS = {
    # like a camera's stream, with CABAC and deblocking, at a cheap preset
    "h264": "x264enc speed-preset=ultrafast option-string=cabac=1:no-deblock=0 tune=zerolatency threads=1"
    " bitrate={kbit_s} key-int-max={gop} ! video/x-h264,profile=main ! {breaker}"
    " ! rtph264pay config-interval=-1 name=pay0 pt=96",
    "h265": "x265enc speed-preset=ultrafast tune=zerolatency log-level=none bitrate={kbit_s} key-int-max={gop}"
    " ! h265parse ! {breaker} ! rtph265pay config-interval=-1 name=pay0 pt=96",
    "mjpeg": "jpegenc quality=80 ! {breaker} ! rtpjpegpay name=pay0 pt=26",
    "vp8": "vp8enc deadline=1 cpu-used=8 keyframe-max-dist={gop} ! {breaker} ! rtpvp8pay name=pay0 pt=96",
}
# The first 64 bytes of a unit, its headers, are never damaged, so that the damage is in the picture.
BREAKER = "breakmydata name=breaker probability=0 skip=64"
# Speed in pixels per picture; grey levels of the noise and its number of pictures, without which encoding is too easy.
SPEED, NOISE, NOISES = 4, 24, 8
AUDIO = "audiotestsrc is-live=true wave=silence ! alawenc ! rtppcmapay name=pay1 pt=8"


class Camera(threading.Thread):
    """Draw at a steady rate while somebody watches, and push the pictures to every watching `appsrc`."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(daemon=True)
        self.muted = self.frozen = False
        self._drawn = 0
        self._period_ns = round(1e9 / stream.rate_hz)
        self._rate = f"{round(stream.rate_hz * 1000)}/1000"
        self._watched: list[Gst.Element] = []
        self._lock = threading.Lock()
        self.resize(stream.width, stream.height)

    def resize(self, width: int, height: int) -> None:
        """Change the pictures' size; raises `ValueError` for a size that RTP/JPEG cannot express."""
        if width % 8 or height % 8:
            raise ValueError(f"sides must be multiples of 8, found {width}x{height}")
        chance = np.random.default_rng(0)
        below = height - height // 2
        scene = chance.integers(60, 190, (below // 8 + 1, width // 8 + 1), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        caps = f"video/x-raw,format=I420,width={width},height={height},framerate={self._rate},colorimetry=bt601"
        with self._lock:
            self._planes = np.full(width * height * 3 // 2, 128, np.uint8)
            self._luma = self._planes[: width * height].reshape(height, width)
            self._scene = np.hstack([scene[:below, :width]] * 2)
            self._noise = chance.integers(0, NOISE, (NOISES, below, width), np.uint8)
            self._caps = Gst.Caps.from_string(caps)

    def watch(self, source: Gst.Element) -> None:
        """Start to feed this `appsrc`."""
        with self._lock:
            self._watched.append(source)

    def leave(self, source: Gst.Element) -> None:
        """Stop feeding this `appsrc`."""
        with self._lock:
            self._watched.remove(source)

    def run(self) -> None:
        """Draw and push on a schedule that does not drift; missed instants (SIGSTOP) are skipped."""
        due_ns = time.monotonic_ns()
        while True:
            due_ns += self._period_ns
            wait_ns = due_ns - time.monotonic_ns()
            if wait_ns < 0:
                due_ns += -wait_ns // self._period_ns * self._period_ns
            time.sleep(max(0, wait_ns) / 1e9)
            if not self.muted:
                self.push()

    def push(self) -> None:
        """Push a picture to every source that plays.

        A source that does not play yet may have a clock but no base time: it would stamp the picture with the hours
        since the machine started, and its sink would wait as long.
        """
        with self._lock:
            playing = [source for source in self._watched if source.get_state(0)[1] == Gst.State.PLAYING]
            if not playing:
                return
            if not self.frozen:
                self._draw()
            data, caps = self._planes.tobytes(), self._caps
            for source in playing:
                source.set_property("caps", caps)
                source.emit("push-buffer", Gst.Buffer.new_wrapped(data))

    def _draw(self) -> None:
        """Draw the stamp in the upper half, and below it a scene that moves to the left, with sensor noise."""
        self._drawn += 1
        width = self._luma.shape[1]
        left = self._drawn * SPEED % width
        scene, noise = self._scene[:, left : left + width], self._noise[self._drawn % NOISES]
        np.add(scene, noise, out=self._luma[self._luma.shape[0] // 2 :])
        stamp.draw(self._luma, time.monotonic_ns())


class OneCamera(GstRtspServer.RTSPMediaFactory):
    """Let all watchers share one encoder, whatever address they use."""

    def do_gen_key(self, url: object) -> str:
        """Return one key for all addresses; the server shares media of equal keys."""
        return "camera"


class Server:
    """The RTSP server, and its commands."""

    def __init__(self, stream: Stream) -> None:
        self._camera = Camera(stream)
        self._media: list[GstRtspServer.RTSPMedia] = []
        self._factory = factory = OneCamera()
        factory.set_launch(launch_text(stream))
        factory.set_shared(True)
        factory.connect("media-configure", self._configure)
        self._server = server = GstRtspServer.RTSPServer.new()
        server.set_address("127.0.0.1")
        server.set_service(str(stream.port))
        mounts = cast(GstRtspServer.RTSPMountPoints, server.get_mount_points())
        for path in ("/camera", *(f"/camera/{number}" for number in range(VIEWS))):
            mounts.add_factory(path, factory)
        if stream.user:
            factory.set_permissions(permissions())
            self.password(stream.user, stream.password)
        if server.attach(None) == 0:
            raise OSError(f"port {stream.port} is not free")
        self.port = server.get_bound_port()
        self._camera.start()

    def _configure(self, factory: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia) -> None:
        source = element(media, "camera")
        self._media.append(media)
        media.connect("unprepared", self._forget, source)
        self._camera.watch(source)

    def _forget(self, media: GstRtspServer.RTSPMedia, source: Gst.Element) -> None:
        self._camera.leave(source)
        self._media.remove(media)

    def obey(self, command: str) -> None:
        """Run one command: the first word is the name of a method, the others are its arguments."""
        name, *words = command.split()
        if name not in COMMANDS:
            raise ValueError(f"no command {name!r}; known: {', '.join(COMMANDS)}")
        getattr(self, name)(*words)

    def freeze(self) -> None:
        """Send the same picture again and again, at the same rate."""
        self._camera.frozen = True

    def thaw(self) -> None:
        """Let pictures move again."""
        self._camera.frozen = False

    def mute(self) -> None:
        """Send no pictures; connections and RTCP continue."""
        self._camera.muted = True

    def unmute(self) -> None:
        """Send pictures again."""
        self._camera.muted = False

    def resize(self, width: str, height: str) -> None:
        """Change the resolution in mid-stream."""
        self._camera.resize(int(width), int(height))

    def corrupt(self, probability: str) -> None:
        """Set this share of a unit's bytes to random values, for current watchers; 0 stops it."""
        for media in self._media:
            element(media, "breaker").set_property("probability", float(probability))

    def rtcp(self, wanted: str) -> None:
        """`off`: stop the sender reports to current watchers."""
        for media in self._media:
            for index in range(media.n_streams()):
                stream = cast(GstRtspServer.RTSPStream, media.get_stream(index))
                for pad in rtcp_pads(cast(Gst.Bin, stream.get_joined_bin())):
                    pad.add_probe(Gst.PadProbeType.BUFFER, lambda *_: Gst.PadProbeReturn.DROP)

    def password(self, user: str, password: str) -> None:
        """Start to ask for this user and password, by the basic or the digest method."""
        token = GstRtspServer.RTSPToken.new()
        token.set_string("media.factory.role", ROLE)
        auth = GstRtspServer.RTSPAuth.new()
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        auth.add_digest(user, password, token)
        self._server.set_auth(auth)


COMMANDS = ("freeze", "thaw", "mute", "unmute", "resize", "corrupt", "rtcp", "password")


def launch_text(stream: Stream) -> str:
    """Text of the pipeline that makes the stream."""
    gop = max(1, round(stream.gop_s * stream.rate_hz))
    encoder = ENCODERS[stream.codec].format(kbit_s=stream.kbit_s, gop=gop, breaker=BREAKER)
    source = "appsrc name=camera is-live=true do-timestamp=true format=time max-buffers=4 leaky-type=downstream"
    return f"( {source} ! {encoder} {AUDIO if stream.audio else ''} )"


def element(media: GstRtspServer.RTSPMedia, name: str) -> Gst.Element:
    """The element `name` of the pipeline behind a stream."""
    return cast(Gst.Element, cast(Gst.Bin, media.get_element()).get_by_name(name))


def permissions() -> GstRtspServer.RTSPPermissions:
    """Permissions by which only users with the password see the stream."""
    found = GstRtspServer.RTSPPermissions.new()
    found.add_role(ROLE)
    for right in ("access", "construct"):
        found.add_permission_for_role(ROLE, f"media.factory.{right}", True)
    return found


def rtcp_pads(pipeline: Gst.Bin) -> list[Gst.Pad]:
    """The pads that send RTCP reports."""
    managers = [
        each for each in pipeline.children if cast(Gst.ElementFactory, each.get_factory()).get_name() == "rtpbin"
    ]
    return [pad for manager in managers for pad in manager.pads if str(pad.get_name()).startswith("send_rtcp_src")]


def answer(**words: Any) -> None:
    """Write one line to the process that started the camera."""
    print(json.dumps(words), flush=True)


def listen(server: Server) -> None:
    """Read commands until stdin ends, and obey each on GLib's thread."""
    for line in sys.stdin:
        GLib.idle_add(obey, server, line)
    os._exit(0)


def obey(server: Server, line: str) -> bool:
    """Run one command; returns False, because GLib calls a function that returns True again."""
    try:
        server.obey(line)
    except (ValueError, TypeError, IndexError) as error:
        answer(error=str(error))
    else:
        answer()
    return False


def main() -> None:
    """Serve until stdin ends."""
    try:
        server = Server(msgspec.json.decode(sys.argv[1] if len(sys.argv) > 1 else "{}", type=Stream))
    except OSError as error:
        answer(error=str(error))
        return
    answer(port=server.port)
    threading.Thread(target=listen, args=(server,), daemon=True).start()
    GLib.MainLoop().run()  # type: ignore[no-untyped-call]  # PyGObject's override has no types


if __name__ == "__main__":
    main()
