"""JetPack releases and what their TensorRT reads."""

from __future__ import annotations

import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.hardware import JETPACKS, TARGETS, dialect_of, jetpack_of, newest_jetpack


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
    for versions in ([each.name for each in JETPACKS], [each.l4t for each in JETPACKS]):
        assert versions == sorted(versions, key=lambda version: [int(part) for part in version.split(".")])
    assert all(jetpack.source for jetpack in JETPACKS)


def test_every_board_has_a_release_and_no_card_has_one() -> None:
    for target in TARGETS:
        assert target.sm is None or (newest_jetpack(target.sm) is not None) == (target.kind == "jetson")


def test_a_board_may_have_had_both_dialects() -> None:
    for_orin = [jetpack for jetpack in JETPACKS if 87 in jetpack.sm]
    assert [dialect_of(jetpack.tensorrt) for jetpack in for_orin] == ["decomposed"] * 3 + ["native"]


@pytest.mark.parametrize(
    ("l4t", "name"),
    [
        ("36.4.0", "6.1"),
        ("36.4", "6.1"),
        ("36.4.3", "6.2"),
        ("36.4.7", "6.2 or later"),
        ("36.5", "6.2.2"),
        ("36.5.0", "6.2.2"),
        ("36.6.1", "6.2.2 or later"),
        ("38.4.0", "7.1"),
        ("39.2", "7.2"),
        ("39.3", "7.2 or later"),
        ("36.3.0", None),
        ("35.6.1", None),
        ("40.1", None),
    ],
)
def test_a_board_is_named_by_its_jetson_linux(l4t: str, name: str | None) -> None:
    found = jetpack_of(l4t)
    assert (found and found.name) == name
