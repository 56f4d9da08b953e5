"""Answers as models really give them, in the reference's reading and in the repaired one."""

from __future__ import annotations

import pytest

from edge_sdk.evaluation.tasks import parse


@pytest.mark.parametrize(
    ("answer", "reference", "repaired"),
    [
        ("Yes", True, True),
        (" no ", False, False),
        ("Yes.", True, True),
        ("YES, there is a collision", True, True),
        # The letters of "no" are enough for the reference.
        ("I cannot tell", False, None),
        ("unknown", False, None),
        ("It is snowing", False, None),
        ("Yes, the truck does not brake", None, True),
        ("No, yes would be wrong", None, False),
        ("The answer is yes", True, True),
        ("The answer is no", False, False),
        ("yes or no", None, True),
        ("either yes or no", None, None),
        ("eyes on the road", True, None),
        ("", None, None),
        ("A collision happens", None, None),
    ],
)
def test_yes_and_no(answer: str, reference: bool | None, repaired: bool | None) -> None:
    assert parse.reference_yes_no(answer) is reference
    assert parse.yes_no(answer) is repaired


@pytest.mark.parametrize(
    ("answer", "reference", "repaired"),
    [
        ("20.8 - 30.0 seconds", (20.8, 30.0), (20.8, 30.0)),
        ("5.0-7.6", (5.0, 7.6), (5.0, 7.6)),
        ("from 5 to 7 seconds", (5.0, 7.0), (5.0, 7.0)),
        # An en dash is no hyphen: the first two numbers, whatever they are, stand in.
        ("6.0 \N{EN DASH} 7.0 seconds", (6.0, 7.0), (6.0, 7.0)),
        ("In 2 cars, 6.0 \N{EN DASH} 7.0", (2.0, 6.0), (6.0, 7.0)),
        ("7.0 - 6.0 seconds", (7.0, 6.0), (6.0, 7.0)),
        ("5.0 - 8.6.", (0.0, 0.0), (5.0, 8.6)),
        ("5.0s - 7.0s", (5.0, 7.0), (5.0, 7.0)),
        (".5 - 2.0 seconds", (0.5, 2.0), (0.5, 2.0)),
        ("5.0..7.0", (0.0, 0.0), (5.0, 7.0)),
        ("8.6 seconds", (0.0, 0.0), None),
        ("8.6.", (0.0, 0.0), None),
        ("no crash", (0.0, 0.0), None),
        ("... - 3.0", (0.0, 0.0), None),
        ("", (0.0, 0.0), None),
    ],
)
def test_intervals(answer: str, reference: tuple[float, float], repaired: tuple[float, float] | None) -> None:
    assert parse.reference_interval(answer) == reference
    assert parse.interval(answer) == repaired


@pytest.mark.parametrize(
    ("answer", "reference", "repaired"),
    [
        ("8.6 seconds", 8.6, 8.6),
        ("at 12 s", 12.0, 12.0),
        ("8.6.", None, 8.6),
        ("Well... 3.0 seconds", None, 3.0),
        ("around 3.0 - 4.0 seconds", 3.0, 3.0),
        ("no sign", None, None),
        ("", None, None),
    ],
)
def test_times(answer: str, reference: float | None, repaired: float | None) -> None:
    assert parse.reference_time(answer) == reference
    assert parse.time(answer) == repaired
