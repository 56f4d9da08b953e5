"""Recognition against scikit-learn, and against the one confusion that the paper's numbers allow."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from edge_sdk.evaluation.tasks import recognition
from edge_sdk.evaluation.tasks.constants import PAPER
from edge_sdk.evaluation.tasks.draws import Draws

CRASHES, OTHERS = 1162, 677
NAMES = ("precision", "recall", "f1")
PLAIN = Draws(np.ones((1, 200)))


@pytest.mark.parametrize("bias", [0.5, 0.95, 0.0, 1.0])
def test_scores_are_those_of_scikit_learn(bias: float) -> None:
    rng = np.random.default_rng(1)
    truth, claimed = rng.random(200) < 0.6, rng.random(200) < bias
    found = {name: each.value for name, each in recognition.scores(truth, claimed, PLAIN).items()}
    expected = {"accuracy": accuracy_score(truth, claimed)}
    for prefix, average in (("yes", "binary"), ("macro", "macro")):
        parts = precision_recall_fscore_support(truth, claimed, average=average, zero_division=0.0)
        expected |= {f"{prefix}_{name}": part for name, part in zip(NAMES, parts, strict=False)}
    of_no = precision_recall_fscore_support(~truth, ~claimed, average="binary", zero_division=0.0)
    expected |= {f"no_{name}": part for name, part in zip(NAMES, of_no, strict=False)}
    assert found == pytest.approx(expected)


def test_the_papers_heterogeneous_row_has_one_confusion() -> None:
    """Of all 787,314 confusions of its test split, FN 1 and FP 34 alone round to the three numbers printed."""
    fn, fp = np.meshgrid(np.arange(CRASHES + 1), np.arange(OTHERS + 1), indexing="ij")
    scores = recognition.of_counts(np.stack([CRASHES - fn, fn, fp, OTHERS - fp], axis=-1))
    row = next(row.scores for row in PAPER["recognition"] if row.name.endswith("heterogeneous"))
    assert row == {"macro_recall": 0.9745, "macro_precision": 0.9850, "macro_f1": 0.9793}
    same = np.logical_and.reduce([np.abs(scores[name] - value) <= 0.5e-4 for name, value in row.items()])
    assert [(int(fn[at]), int(fp[at])) for at in zip(*np.nonzero(same), strict=True)] == [(1, 34)]
    at = (1, 34)
    assert round(float(scores["accuracy"][at]), 3) == 0.981
    assert round(float(scores["yes_recall"][at]), 3) == 0.999
    assert round(34 / OTHERS, 3) == 0.050
    # The positive class alone would have been printed differently.
    assert round(float(scores["yes_f1"][at]), 4) != 0.9793


def test_always_yes_is_the_papers_weakest_baseline() -> None:
    scores = recognition.of_counts([CRASHES, 0, OTHERS, 0])
    macro = [round(float(scores[f"macro_{name}"]), 3) for name in ("recall", "precision", "f1")]
    assert macro == [0.500, 0.316, 0.387]


def test_confusion_counts() -> None:
    found = recognition.confusion([True, True, False, False, False], [True, False, True, False, False])
    assert (found.tp, found.fn, found.fp, found.tn) == (1, 1, 1, 2)


def test_a_resample_without_the_rarer_class_does_not_speak_of_it() -> None:
    """Three crashes and one other clip, all right: a third of the resamples lack the one, and hold no mistake."""
    truth = [True, True, True, False]
    draws = Draws.over(list("abcd"), rounds=1000, seed=0)
    found = recognition.scores(truth, truth, draws, strict=True)
    for name in ("macro_f1", "macro_recall", "macro_precision", "yes_f1", "accuracy"):
        assert (found[name].value, found[name].lo, found[name].hi) == (1.0, 1.0, 1.0)
    alone = recognition.scores([True, True], [True, False], Draws(np.ones((1, 2))), strict=True)
    assert (alone["macro_f1"].value, alone["yes_recall"].value, alone["accuracy"].value) == (None, 0.5, 0.5)
    assert (found["no_f1"].lo, alone["no_recall"].value) == (1.0, None)
    # The reference's script gives such resamples a 0.
    assert recognition.scores(truth, truth, draws)["macro_f1"].lo == 0.5


def test_a_resample_without_a_clip_defines_nothing() -> None:
    draws = Draws.over(["a", "b", "c"], rounds=400, seed=0).take([0])
    found = recognition.scores([True], [True], draws)["accuracy"]
    assert (found.value, found.lo, found.hi) == (1.0, 1.0, 1.0)
