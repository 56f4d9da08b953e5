"""The arithmetic of an ablation, against numbers worked out by hand."""

from __future__ import annotations

import pytest
from seed_gains import Figure, Metric, figure, floor, lines, standard_error, summarise

METRICS = (Metric("AP", to_gain=True), Metric("AUC"), Metric("error s", rising=False, to_gain=True))


def test_a_standard_error_is_the_deviation_over_the_root_of_the_count() -> None:
    # Squared distances from 2: 1, 0, 1; variance 2 / 2 = 1.
    assert standard_error([1.0, 2.0, 3.0]) == pytest.approx(3**-0.5)
    # Squared distances from 0.5: 0.01 twice; variance 0.02, over 2.
    assert standard_error([0.4, 0.6]) == pytest.approx(0.1)


def test_gains_are_paired_by_seed() -> None:
    """Seeds differ by 0.1, gains by 0.01: 0.01, 0.02, 0.03."""
    found = figure([0.51, 0.62, 0.73], [0.5, 0.6, 0.7])
    assert found is not None
    assert found.mean == pytest.approx(0.62)
    assert found.error == pytest.approx(0.11 / 3**0.5)
    assert found.gain == pytest.approx(0.02)
    assert found.gain_error == pytest.approx(0.01 / 3**0.5)
    assert found.in_errors == pytest.approx(2 * 3**0.5)


def test_less_of_an_error_is_a_gain() -> None:
    found = figure([0.3, 0.5], [0.5, 0.6], rising=False)
    assert found is not None
    assert found.mean == pytest.approx(0.4)
    assert found.gain == pytest.approx(0.15)
    assert found.gain_error == pytest.approx(0.05)
    assert found.in_errors == pytest.approx(3.0)


def test_what_is_missing_or_has_no_spread_is_not_divided() -> None:
    assert figure([0.5, None], [0.5, 0.5]) is None
    assert figure([0.5, 0.5], [None, 0.5]) is None
    same = figure([0.5, 0.75], [0.5, 0.75])
    assert same == Figure(mean=0.625, error=0.125, gain=0.0, gain_error=0.0, in_errors=None)


def gained(gain: float, errors: float) -> Figure:
    return Figure(mean=0.5, error=0.1, gain=gain, gain_error=gain / errors, in_errors=errors)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ((gained(0.1, 2.5), gained(0.1, 0.5), gained(0.1, 1.0)), "held; clearly better: AP; worse: none"),
        ((gained(0.1, 2.0), gained(0.1, 9.0), gained(0.1, 1.0)), "not held; clearly better: none; worse: none"),
        (
            (gained(0.1, 2.5), gained(-0.1, -0.5), gained(0.1, 3.0)),
            "not held; clearly better: AP, error s; worse: AUC (-0.5 SE)",
        ),
        ((None, None, gained(0.1, 3.0)), "held; clearly better: error s; worse: none"),
    ],
)
def test_the_floor_is_no_metric_worse_and_one_clearly_better(figures: tuple[Figure | None, ...], said: str) -> None:
    assert floor({metric.name: each for metric, each in zip(METRICS, figures, strict=True)}, METRICS) == said


def test_variants_stand_beside_the_first() -> None:
    labels: dict[int, dict[str, float | None]] = {
        7: {"AP": 0.5, "AUC": 0.6, "error s": 0.5},
        8: {"AP": 0.6, "AUC": 0.6, "error s": 0.7},
    }
    scores: dict[int, dict[str, float | None]] = {
        7: {"AP": 0.7, "AUC": 0.6, "error s": 0.6},
        8: {"AP": 0.9, "AUC": 0.6, "error s": None},
    }
    found = {(name, seed): each[seed] for seed in (7, 8) for name, each in (("labels", labels), ("scores", scores))}
    plain, taught = summarise(found, METRICS)
    assert (plain.variant, plain.floor) == ("labels", "")
    assert taught.floor == "held; clearly better: AP; worse: none"
    gain = taught.figures["AP"]
    assert gain is not None
    assert (gain.gain, gain.in_errors) == (pytest.approx(0.25), pytest.approx(5.0))
    shown = lines([plain, taught], METRICS, 3)
    assert shown[2] == "| labels | 0.550 ± 0.050 | 0.600 ± 0.000 | 0.600 ± 0.100 |"
    assert shown[3] == "| scores | 0.800 ± 0.100 (+0.250, +5.0 SE) | 0.600 ± 0.000 (+0.000, no spread) | - |"
    assert shown[-1] == "| scores | held; clearly better: AP; worse: none |"
