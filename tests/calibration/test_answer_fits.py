"""What answers are worth: fits against scikit-learn, closed forms and truths known by construction."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from edge_sdk.bundle.manifest_language import FusedFit
from edge_sdk.calibration.answer_fits import (
    MIN_ANSWERS,
    Judged,
    Pair,
    conformal_margin,
    fit_and_judge,
    fit_fused,
    fit_pairs,
    fit_task,
    judge,
    settled,
)
from edge_sdk.reasoning import Answer
from edge_sdk.reasoning.forms.scores import calibrated


def judged(said: NDArray[np.float64], right: NDArray[np.bool_]) -> list[Judged]:
    pairs = enumerate(zip(said.tolist(), right.tolist(), strict=True))
    return [Judged(clip=str(number), said=one, right=truth) for number, (one, truth) in pairs]


def believing(count: int, scale: float, offset: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Log odds that a model says, and whether it is right: with the odds `scale` times them, plus `offset`."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0.5, 2.0, count)
    return odds, rng.random(count) < 1 / (1 + np.exp(-(scale * odds + offset)))


def sigmoid(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-odds)))


def test_the_probability_is_that_of_logistic_regression() -> None:
    odds, right = believing(4000, 0.4, -0.7)
    weights = np.where(right, 1.5, 0.5)
    rows = [
        Judged(clip=str(n), said=float(said), right=bool(truth), weight=float(weight))
        for n, (said, truth, weight) in enumerate(zip(sigmoid(odds), right, weights, strict=True))
    ]
    fit = fit_task(rows)
    oracle = LogisticRegression(C=np.inf).fit(odds[:, None], right, sample_weight=weights)
    assert (fit.scale, fit.offset) == pytest.approx((oracle.coef_[0, 0], oracle.intercept_[0]), abs=2e-3)


def test_a_probability_that_says_nothing_becomes_the_share_of_right_answers() -> None:
    odds, right = believing(400, -1.0, 0.0)
    fit = fit_task(judged(sigmoid(odds), right))
    for said in (0.01, 0.5, 0.99):
        assert calibrated(said, fit) == pytest.approx((right.sum() + 1) / 402, abs=1e-4)


@pytest.mark.parametrize(("count", "place"), [(9, 8), (19, 16), (4, 4), (100, 81)])
def test_a_margin_is_the_ordered_miss_of_the_conformal_rank(count: int, place: int) -> None:
    misses = np.random.default_rng(count).uniform(0.1, 2.0, count)
    assert conformal_margin(misses.tolist()) == pytest.approx(np.sort(misses)[place - 1], abs=1e-3)
    assert conformal_margin((-misses).tolist()) == 0.0


def test_margins_cover_what_they_say_on_new_clips() -> None:
    """The mean coverage over draws of 39 clips is exactly 32 of 40 (Romano et al. 2019, theorem 1)."""
    rng, inside = np.random.default_rng(1), []
    for _ in range(4000):
        margin = conformal_margin(rng.exponential(1.0, 39).tolist())
        inside.append(1 - math.exp(-margin))
    assert np.mean(inside) == pytest.approx(0.8, abs=0.005)


def test_an_interval_takes_the_margin_of_its_worse_number() -> None:
    rng = np.random.default_rng(2)
    rows = [
        Judged(clip=str(n), said=0.1, right=n % 2 == 0, misses_s=(float(a), float(b)))
        for n, (a, b) in enumerate(rng.uniform((0.0, 0.0), (0.2, 1.5), (60, 2)))
    ]
    ends = conformal_margin([row.misses_s[1] for row in rows])
    assert fit_task(rows).margin_s == ends > 1.0


def test_what_was_overconfident_is_not_any_more_and_abstains_where_it_is_mostly_wrong() -> None:
    odds, right = believing(3000, 0.4, -0.5)
    found = fit_and_judge("cause", judged(sigmoid(odds), right), 0.6)
    assert found is not None
    assert found.fitted.ece.value is not None
    assert found.raw.ece.value is not None
    assert found.fitted.ece.value < found.raw.ece.value / 3
    true = sigmoid(0.4 * odds - 0.5)
    assert found.given == pytest.approx((true >= 0.6).mean(), abs=0.06)
    assert found.right_of_given is not None
    assert found.right_of_kept_back is not None
    assert found.right_of_given > 0.55 > found.right_of_kept_back
    assert found.coverage is None


@pytest.mark.parametrize("least", [0.5, 0.2])
def test_yes_and_no_are_judged_by_the_word_and_fitted_by_yes(least: float) -> None:
    odds, crash = believing(600, 1.0, -2.0)
    found = fit_and_judge("recognition", judged(sigmoid(odds), crash), least)
    assert found is not None
    assert found.fit.offset == pytest.approx(-2.0, abs=0.4)
    assert found.right == pytest.approx(((odds > 0) == crash).mean())
    # A "yes" between the log odds 0 and 2 is a "no" to the fit, which it cannot say: it abstains, whatever the least.
    assert found.given == pytest.approx(1 - ((odds > 0) & (odds < 2)).mean(), abs=0.06)


def test_a_fit_is_judged_by_the_weights_that_it_was_fitted_with() -> None:
    """Half of these clips crash, but a crash counts a ninth of another: odds of 1 for 9 beside what is said."""
    rng = np.random.default_rng(7)
    crash = np.arange(3000) % 2 == 0
    odds, weights = rng.normal(np.where(crash, 0.8, -0.8), 1.2), np.where(crash, 0.2, 1.8)
    columns = zip(sigmoid(odds).tolist(), crash.tolist(), weights.tolist(), strict=True)
    rows = [Judged(clip=str(n), said=one, right=truth, weight=w) for n, (one, truth, w) in enumerate(columns)]
    found = fit_and_judge("recognition", rows)
    assert found is not None
    assert found.fitted.ece.value is not None
    assert found.fitted.ece.value < 0.03
    # Normal odds of one spread: the true ones are 2 * 0.8 / 1.2^2 times what is said, and log 9 less.
    true = sigmoid(2 * 0.8 / 1.2**2 * odds - np.log(9))
    assert found.fitted.brier.value == pytest.approx(np.average((true - crash) ** 2, weights=weights), abs=0.005)
    assert found.right == pytest.approx(np.average((odds > 0) == crash, weights=weights))
    given = np.where(odds > 0, true >= 0.5, true < 0.5)
    assert found.given == pytest.approx(np.average(given, weights=weights), abs=0.02)
    assert found.right_of_given == pytest.approx(
        np.average(((odds > 0) == crash)[given], weights=weights[given]), abs=0.02
    )


def seen_by_both(count: int, weight: float, seed: int = 3) -> list[Pair]:
    """Clips half of which crash; model and student know of it apart from each other, the student `weight` as well."""
    rng = np.random.default_rng(seed)
    crash = rng.random(count) < 0.5
    model, student = (rng.normal(np.where(crash, 1, -1) * each, 1.0) for each in (0.8, 0.8 * weight))
    rows = zip(sigmoid(model).tolist(), sigmoid(student).tolist(), crash.tolist(), strict=True)
    alone = [(Judged(clip=str(n), said=said, right=truth), score) for n, (said, score, truth) in enumerate(rows)]
    return [Pair(each, msgspec.structs.replace(each, student=score)) for each, score in alone]


def test_the_fit_of_both_is_logistic_regression_on_both_log_odds() -> None:
    pairs = seen_by_both(3000, 1.5)
    both = [pair.fused for pair in pairs if pair.fused]
    odds = np.array([[np.log(p / (1 - p)) for p in (each.said, each.student or 0.5)] for each in both])
    right = np.array([each.right for each in both])
    oracle = LogisticRegression(C=np.inf).fit(odds, right)
    fit = fit_fused(both, 0.6)
    assert (fit.scale, fit.student_weight) == pytest.approx(tuple(oracle.coef_[0]), rel=0.02)
    assert (fit.offset, fit.abstain_below) == (pytest.approx(oracle.intercept_[0], abs=0.02), 0.6)
    found = fit_pairs("recognition", pairs)
    assert found is not None
    assert found.with_student is not None
    # Normal log odds of spread 1: the share of right decisions is the normal's at the length of their mean.
    assert found.right == pytest.approx(norm.cdf(0.8), abs=0.02)
    assert found.with_student.right == pytest.approx(norm.cdf(0.8 * math.hypot(1, 1.5)), abs=0.02)
    assert found.with_student.right == pytest.approx((oracle.predict(odds) == right).mean(), abs=0.005)
    assert found.with_student.given == 1.0


def test_a_student_that_knows_nothing_or_did_not_watch_is_left_out() -> None:
    # Noise may gain a clip in a hundred by luck; such a draw was not looked for.
    found = fit_pairs("recognition", seen_by_both(2000, -0.02))
    assert found is not None
    assert found.with_student is None
    unwatched = [Pair(pair.alone) for pair in seen_by_both(200, 2.0)]
    blind = fit_pairs("recognition", unwatched)
    assert blind is not None
    assert blind.with_student is None


def test_a_student_does_not_win_by_what_a_fit_of_the_model_alone_would_mend() -> None:
    """A model that says no too often is righter by its own fit, which a student of noise would bring along."""
    rng = np.random.default_rng(6)
    crash = rng.random(1000) < 0.5
    odds, noise = rng.normal(np.where(crash, 1.0, -1.0), 1.0) - 3.0, rng.normal(0.0, 1.0, 1000)
    rows = zip(sigmoid(odds).tolist(), sigmoid(noise).tolist(), crash.tolist(), strict=True)
    alone = [(Judged(clip=str(n), said=said, right=truth), score) for n, (said, score, truth) in enumerate(rows)]
    found = fit_pairs("recognition", [Pair(each, msgspec.structs.replace(each, student=s)) for each, s in alone])
    assert found is not None
    assert found.right < 0.6
    assert found.with_student is None


@pytest.mark.parametrize("weight", [-1.5, -0.3])
def test_who_speaks_against_the_truth_is_left_out_of_the_fit(weight: float) -> None:
    """Whichever of the two it is, the other's fit is as it would be alone."""
    pairs = [pair.fused for pair in seen_by_both(2000, weight) if pair.fused]
    fit, alone = fit_fused(pairs), fit_task([pair.alone for pair in seen_by_both(2000, weight)])
    assert fit.student_weight == 0.0
    assert (fit.scale, fit.offset) == pytest.approx((alone.scale, alone.offset))
    turned = [msgspec.structs.replace(each, said=each.student or 0.5, student=each.said) for each in pairs]
    fit = fit_fused(turned)
    assert fit.scale < 1e-3
    assert (fit.student_weight, fit.offset) == pytest.approx((alone.scale, alone.offset), rel=1e-3)


def test_intervals_of_both_are_fitted_where_more_of_them_are_right() -> None:
    """The model's own are right four times in ten, those of both seven; of half of the clips there are none of both."""
    rng = np.random.default_rng(4)
    pairs = []
    for number in range(400):
        alone, both = (
            Judged(
                clip=str(number),
                said=float(rng.uniform(0.2, 0.8)),
                right=bool(rng.random() < share),
                misses_s=(float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.5, miss))),
            )
            for share, miss in ((0.4, 1.0), (0.7, 0.7))
        )
        pairs.append(Pair(alone, both if number % 2 else None))
    found = fit_pairs("crash_interval", pairs)
    assert found is not None
    assert found.with_student is not None
    assert (found.answers, found.with_student.answers) == (400, 200)
    fit = found.with_student.fit
    assert isinstance(fit, FusedFit)
    assert fit.student_weight == 0.0
    seen = [pair.fused for pair in pairs if pair.fused]
    assert fit.margin_s == conformal_margin([each.misses_s[1] for each in seen])
    assert sigmoid(np.array(fit.offset + fit.scale * 0.0)) == pytest.approx(0.7, abs=0.08)
    worse = fit_pairs("crash_interval", [Pair(p.fused, p.alone) if p.fused else p for p in pairs])
    assert worse is not None
    assert worse.with_student is None


def test_few_answers_teach_nothing() -> None:
    odds, right = believing(MIN_ANSWERS - 1, 1.0, 0.0)
    assert fit_and_judge("cause", judged(sigmoid(odds), right)) is None


def answer(task: str, **fields: object) -> Answer:
    return Answer(task=task, form="text", probability=0.3, **fields)  # type: ignore[arg-type]


def test_answers_are_judged_as_the_field_counts_them() -> None:
    def said(task: str, truth: str, offset_s: float = 0.0, **fields: object) -> Judged:
        found = judge(answer(task, **fields), truth, "c", offset_s=offset_s)
        assert found is not None
        return found

    assert said("description", "Truck hits car.", text="truck hits car").right
    assert not said("description", "truck hits bus", text="truck hits car").right
    yes, no = (said("recognition", "No", value=value) for value in (True, False))
    assert (yes.said, no.said) == pytest.approx((0.3, 0.7))
    assert (yes.right, no.right) == (False, False)
    near = said("pre_crash_time", "2.0 seconds", value=2.5, lo=2.1, hi=2.9)
    far = said("pre_crash_time", "2.0 seconds", value=2.6, lo=1.9, hi=2.9)
    assert (near.right, far.right) == (True, False)
    assert near.misses_s == pytest.approx((0.1,))
    assert far.misses_s == pytest.approx((-0.1,))
    half = said("crash_interval", "2.0 - 4.0 seconds", 10.0, value=(12.0, 13.0), lo=(11.5, 12.8), hi=(12.5, 13.5))
    less = said("crash_interval", "2.0 - 4.1 seconds", 10.0, value=(12.0, 13.0), lo=(11.5, 12.8), hi=(12.5, 13.5))
    assert (half.right, less.right) == (True, False)
    assert half.misses_s == pytest.approx((-0.5, 0.5))


def test_an_answer_without_a_value_is_not_judged() -> None:
    assert judge(answer("pre_crash_time"), "2.0 seconds", "c") is None
    assert judge(Answer(task="cause", form="text"), "words", "c") is None


def test_texts_follow_the_verdict_of_both() -> None:
    """The model denies half of the crashes; the student sees them all, and then the model's other words are right."""
    texts, recognition = [], []
    for number in range(200):
        clip, crash, denies = str(number), number % 2 == 0, number % 4 in (0, 1)
        alone = Judged(clip=clip, said=0.6 + number / 1000, right=denies != crash)
        denial, claim = Judged(clip=clip, said=1.0, right=not crash), Judged(clip=clip, said=0.5, right=crash)
        texts.append(Pair(alone, denial=denial, claim=claim if denies else alone))
        verdict = Judged(clip=clip, said=0.4 + 0.2 * (number % 3 == 0), right=crash)
        recognition.append(Pair(verdict, msgspec.structs.replace(verdict, student=0.8 if crash else 0.2)))
    found = settled(texts, recognition)
    assert [pair.alone for pair in found] == [pair.alone for pair in texts]
    for number, pair in enumerate(found):
        assert pair.fused is not None
        assert pair.fused.right
        assert pair.fused.verdict is not None
        assert pair.fused.verdict > 0.9
        assert pair.fused.said == (1.0 if number % 2 else 0.5 if number % 4 == 0 else 0.6 + number / 1000)
        assert pair.fused.teaches == (number % 2 == 0)
    fit = fit_pairs("cause", found)
    assert fit is not None
    assert fit.with_student is not None
    assert (fit.right, fit.with_student.right) == (0.5, 1.0)
    unwatched = settled([pair._replace(denial=None) for pair in texts], recognition)
    assert not any(pair.fused for pair in unwatched)


def test_a_text_is_as_probable_as_its_verdict_and_what_its_words_are_worth_in_a_crash() -> None:
    """Words of crashes are right with their own log odds less one; of other clips there are none that are right."""
    rng = np.random.default_rng(8)
    rows = []
    for number in range(3000):
        crash, verdict = number % 2 == 0, float(rng.uniform(0.5, 1.0))
        odds = float(rng.normal(1.0, 1.5))
        right = bool(crash and rng.random() < 1 / (1 + math.exp(1 - odds)))
        said = 1 / (1 + math.exp(-odds))
        rows.append(Judged(clip=str(number), said=said, right=right, verdict=verdict, teaches=crash))
    fit = fit_fused(rows)
    assert (fit.scale, fit.offset) == pytest.approx((1.0, -1.0), abs=0.12)
    denials = [Judged(clip=f"d{n}", said=1.0, right=n % 5 > 0, verdict=0.8, teaches=False) for n in range(3000)]
    found = fit_and_judge("cause", [*rows, *denials], fitting=fit_fused)
    assert found is not None
    assert found.fit.offset == pytest.approx(fit.offset, abs=1e-9)
    # Denials are right as often as their verdict says.
    bins = [each for each in found.fitted.bins if each.said == pytest.approx(0.8, abs=0.01)]
    assert max(bins, key=lambda each: each.clips).happened == pytest.approx(0.8, abs=0.03)
