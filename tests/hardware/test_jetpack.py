"""JetPack releases and what their TensorRT reads."""

from __future__ import annotations

import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.hardware import JETPACKS, TARGETS, dialect_of, newest_jetpack


@pytest.mark.parametrize(
    ("version", "dialect"),
    [
        ("10.3", "decomposed"),
        ("10.3.0.30", "decomposed"),
        ("10.13.3", "decomposed"),
        ("10.14.1", "decomposed"),
        ("10.15.0", "native"),
        ("10.16.2.10", "native"),
        ("11.4.1", "native"),
    ],
)
def test_the_installed_tensorrt_picks_the_dialect(version: str, dialect: str) -> None:
    assert dialect_of(version) == dialect


@pytest.mark.parametrize(
    ("version", "message"), [("8.6.2", "10.3 or newer"), ("10.2.9", "10.3 or newer"), ("new", "is written such as")]
)
def test_a_tensorrt_that_cannot_be_used(version: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dialect_of(version)


def test_releases_are_usable_and_in_order() -> None:
    assert all(dialect_of(jetpack.tensorrt) for jetpack in JETPACKS)
    assert [float(jetpack.name) for jetpack in JETPACKS] == sorted(float(jetpack.name) for jetpack in JETPACKS)
    assert all(jetpack.source for jetpack in JETPACKS)


def test_every_board_has_a_release_and_no_card_has_one() -> None:
    for target in TARGETS:
        assert target.sm is None or (newest_jetpack(target.sm) is not None) == (target.kind == "jetson")


def test_a_board_may_have_had_both_dialects() -> None:
    for_orin = [jetpack for jetpack in JETPACKS if 87 in jetpack.sm]
    assert [dialect_of(jetpack.tensorrt) for jetpack in for_orin] == ["decomposed", "decomposed", "native"]
