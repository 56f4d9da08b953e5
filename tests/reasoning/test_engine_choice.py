"""Which caches a reasoner takes where engines are built: one that has an engine, and one for a decoder's adapters."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest
from host_board import Board
from msgspec.structs import replace
from toy_speaker import STEP_S, ToySpeaker, make_toy_speaker, pictures

from edge_sdk.bundle.manifest_language import DecoderGraph, DecoderSet
from edge_sdk.errors import EngineError
from edge_sdk.reasoning.cache.calls import CallShape
from edge_sdk.reasoning.fitting import Fit, Need, fit
from edge_sdk.reasoning.reasoner import Reasoner
from edge_sdk.runtime import SessionOptions
from edge_sdk.toolchain.building import BuildOptions, build

TOKENS = 6
SLOTS = (640, 2048)


def slots_of(found: Fit) -> set[int]:
    return {graph.slots for graph in found.decoders.values()}


def test_a_default_build_is_enough_for_a_short_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Board(monkeypatch)
    bundle, engines = make_toy_speaker(tmp_path, "base", slots=SLOTS).bundle, tmp_path / "engines"
    build(bundle, "trt", cache=engines, quiet=True)
    options = SessionOptions(engines=engines)
    with Reasoner(bundle, "trt", options, max_frames=10, max_tokens=TOKENS) as reasoner, reasoner.begin() as clip:
        assert slots_of(reasoner.fit) == {2048}
        for number, pixels in enumerate(pictures(10, seed=2)):
            clip.push(pixels, number * STEP_S)
        assert any(clip.ask())
    build(bundle, "trt", cache=engines, options=BuildOptions(slots=(640,)), quiet=True)
    with Reasoner(bundle, "trt", options, max_frames=10, max_tokens=TOKENS) as reasoner:
        assert slots_of(reasoner.fit) == {640}
    with Reasoner(bundle, "trt", options, max_tokens=TOKENS) as reasoner:
        assert slots_of(reasoner.fit) == {2048}


def test_an_engine_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one engine holds no whole clip, so that the other is to be built."""
    Board(monkeypatch)
    bundle, engines = make_toy_speaker(tmp_path, "base", slots=SLOTS).bundle, tmp_path / "engines"
    build(bundle, "trt", cache=engines, options=BuildOptions(slots=(640,)), quiet=True)
    with pytest.raises(EngineError, match=r"no engine for the graph '(.*2048.*)' is in .* --graph \1$"):
        Reasoner(bundle, "trt", SessionOptions(engines=engines), max_frames=96, max_tokens=TOKENS)


@pytest.fixture(scope="module")
def switchable(tmp_path_factory: pytest.TempPathFactory) -> ToySpeaker:
    return make_toy_speaker(tmp_path_factory.mktemp("switchable"), "switchable", slots=(160, 640, 2048))


def fitted(
    speaker: ToySpeaker,
    *needs: int,
    built: Collection[int] = (160, 640, 2048),
    max_memory_mb: float | None = None,
    on_device: bool = True,
) -> Fit:
    language = speaker.bundle.manifest.language
    assert language is not None
    sizes = {each.graph: each.slots for decoder in language.decoders.values() for each in decoder.graphs}
    return fit(
        speaker.bundle,
        language,
        "96f",
        {name: Need(slots, slots) for name, slots in zip(language.adapters, needs, strict=True)},
        dialects=("native",),
        shape=CallShape(fixed=True),
        max_memory_mb=max_memory_mb,
        on_device=on_device,
        is_built=lambda graph: sizes[graph] in built,
    )


def test_short_memory_steps_down_to_an_engine_that_is_there(switchable: ToySpeaker) -> None:
    least_mb = fitted(switchable, 150, 150).memory_mb
    middle_mb = fitted(switchable, 600, 600).memory_mb
    assert slots_of(fitted(switchable, 2000, 2000, max_memory_mb=middle_mb)) == {640}
    assert slots_of(fitted(switchable, 2000, 2000, max_memory_mb=middle_mb, built=(160, 2048))) == {160}
    assert slots_of(fitted(switchable, 2000, 2000, max_memory_mb=least_mb, built=(2048,))) == {160}


def test_adapters_of_one_decoder_share_an_engine(switchable: ToySpeaker) -> None:
    """On a CPU their caches differ, as both graphs read one file of weights."""
    assert slots_of(fitted(switchable, 100, 600)) == {640}
    assert slots_of(fitted(switchable, 100, 600, on_device=False)) == {160, 640}


def test_every_engine_holds_its_own_weights(switchable: ToySpeaker) -> None:
    """One decoder is split into two, so that two engines are made of one file of weights."""
    bundle, language = switchable.bundle, switchable.bundle.manifest.language
    assert language is not None
    (decoder,) = language.decoders.values()
    split = {name: replace(decoder, graphs=_of(decoder, slots)) for name, slots in (("small", 160), ("large", 640))}
    adapters = {
        name: replace(adapter, decoder=own)
        for (name, adapter), own in zip(language.adapters.items(), split, strict=True)
    }
    manifest = replace(bundle.manifest, language=replace(language, decoders=split, adapters=adapters))
    apart = switchable._replace(bundle=replace(bundle, manifest=manifest))
    weights = sum(path.stat().st_size for path in (bundle.folder / "language").glob("decoder*.weights"))
    small, large = (bundle.graph(_of(decoder, slots)[0].graph)[1].stat().st_size for slots in (160, 640))
    of_160, of_640 = (fitted(switchable, slots, slots).memory_mb * 1e6 for slots in (160, 640))
    cache = (of_640 - of_160 - (large - small)) / 2
    assert fitted(apart, 160, 640).memory_mb * 1e6 == pytest.approx(of_160 + cache + large + weights)


def _of(decoder: DecoderSet, slots: int) -> tuple[DecoderGraph, ...]:
    return tuple(each for each in decoder.graphs if each.slots == slots and each.dialect == "native")
