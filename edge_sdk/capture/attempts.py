"""The players of one live source, one after the other; a decoder that shows nothing is replaced by the next one."""

from __future__ import annotations

import msgspec

from edge_sdk.capture.codecs import CODECS
from edge_sdk.capture.feed import Feed
from edge_sdk.capture.live_pipelines import LivePlan
from edge_sdk.capture.platforms import choose
from edge_sdk.capture.player import LivePlayer, PlayerModule
from edge_sdk.errors import EdgeError


class Attempts:
    """Builds players of `plan`, leaving out the decoders that were blamed."""

    def __init__(self, gst: PlayerModule, plan: LivePlan, feed: Feed | None = None) -> None:
        self.plan = plan
        self.feed = feed
        self._gst = gst
        self._blind: frozenset[str] = frozenset()

    def start(self) -> LivePlayer:
        """The next player, playing. Raises `EdgeError`."""
        return self._gst.play_live(self._without(self._blind), self.feed)

    def blame(self, codec_name: str, decoder: str, *, hangs: bool) -> str:
        """Stop using `decoder`: it got units and gave no picture, or `hangs` after some pictures.

        Returns one sentence for people, empty if there is no other decoder; then all of them are tried again.
        """
        blind = self._blind | {decoder}
        codec = next((codec for codec in CODECS if codec.name == codec_name), None)
        if codec is None or self.plan.settings.decoder is not None:
            return ""
        try:
            other = choose(codec, self._without(blind).features).element
        except EdgeError:
            self._blind = frozenset()
            return ""
        self._blind = blind
        fault = "hangs in" if hangs else "shows no picture of"
        return f"{decoder} {fault} this {codec_name} stream: {other} is tried instead"

    def _without(self, elements: frozenset[str]) -> LivePlan:
        features = self.plan.features
        left = msgspec.structs.replace(features, elements=features.elements - elements)
        return msgspec.structs.replace(self.plan, features=left)
