"""Operating points by name, in a manifest and in use."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from toy_bundle import STUDENT, edit, folder, refused, write

from edge_sdk.bundle.manifest import FalseAlarms, OperatingPoint
from edge_sdk.errors import BundleKeyError, UnknownNameError
from edge_sdk.perception.operating import at_point, points_of
from edge_sdk.perception.recogniser import student_of

__all__ = ["folder"]

QUIET = OperatingPoint(
    name="quiet",
    confirm=0.9,
    false_alarms=FalseAlarms(
        budget_per_hour=1.0, alarms=0, hours=0.5, upper_per_hour=6.0, near_miss_alarms=1, near_misses=20
    ),
)


def test_a_point_is_chosen_by_its_name(tmp_path: Path) -> None:
    bundle = write(tmp_path / "toy", student=msgspec.structs.replace(STUDENT, operating_points=(QUIET,)))
    assert set(points_of(student_of(bundle))) == {"quiet", "balanced"}
    assert student_of(bundle).operating_point.name == "balanced"
    assert student_of(bundle, "quiet").operating_point == QUIET
    assert student_of(bundle, "balanced") == student_of(bundle)


def test_a_student_of_one_point_says_which(folder: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"'quiet'.*known: balanced"):
        at_point(STUDENT, "quiet")


def test_a_manifest_without_further_points_stays_what_it_was() -> None:
    """Older bundles have neither key, and none appears when one is written again."""
    text = msgspec.json.encode(STUDENT)
    assert b"operating_points" not in text
    assert b"false_alarms" not in text
    assert msgspec.json.decode(text, type=type(STUDENT)) == STUDENT


def test_a_name_may_not_stand_twice(folder: Path) -> None:
    edit(folder, lambda manifest: manifest["student"].update(operating_points=[{"name": "balanced"}]))
    refused(folder, BundleKeyError, "appears twice", "balanced")
