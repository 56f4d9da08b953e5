"""Clips ranked within their folds, against scikit-learn on each fold's clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from edge_sdk.evaluation import ClipScores, Sample
from edge_sdk.evaluation.paired import clip_ap, difference, value_of
from edge_sdk.evaluation.rows import Answers
from edge_sdk.evaluation.within_folds import ranked_within

FOLDS = {f"g{number}": number % 3 for number in range(90)}


def answers(offsets: tuple[float, float, float]) -> Answers:
    """One skill for all clips, and scores that each fold's student shifts by its own offset."""
    rng = np.random.default_rng(4)
    samples = [
        Sample(
            path=Path(f"{number}.mp4"),
            track="windows",
            kind="crash" if number % 5 < 3 else "normal",
            set="test",
            view="dashcam",
            group=f"g{number}",
            duration_s=3.0,
        )
        for number in range(90)
    ]
    scores = [float(rng.normal() + 1.2 * sample.crash + offsets[FOLDS[sample.group]]) for sample in samples]
    found = [ClipScores(frame_times_s=np.zeros(1), crash=np.zeros(1), score=score) for score in scores]
    return Answers(scorer=str(offsets), samples=samples, scores=found)


def test_a_metric_is_the_mean_over_folds_of_what_scikit_learn_says_of_each() -> None:
    found = answers((0.0, 2.0, -3.0))
    truth, score = (np.array(each) for each in ([s.crash for s in found.samples], [a.score for a in found.scores]))
    fold = np.array([FOLDS[sample.group] for sample in found.samples])
    ap = [average_precision_score(truth[fold == k], score[fold == k]) for k in range(3)]
    auc = [roc_auc_score(truth[fold == k], score[fold == k]) for k in range(3)]
    crashes = [int(truth[fold == k].sum()) for k in range(3)]
    pairs = [count * int((~truth[fold == k]).sum()) for k, count in enumerate(crashes)]
    said = [
        value_of(found, ranked_within(FOLDS, name), seed=0, rounds=200) for name in ("average_precision", "roc_auc")
    ]
    assert said[0].value == pytest.approx(np.average(ap, weights=crashes))
    assert said[1].value == pytest.approx(np.average(auc, weights=pairs))
    assert said[1].lo is not None
    assert said[1].hi is not None
    assert said[1].lo < np.average(auc, weights=pairs) < said[1].hi


def test_scales_of_their_own_cost_folds_nothing_here_and_much_over_all_clips() -> None:
    shifted, same = answers((0.0, 2.0, -3.0)), answers((0.0, 0.0, 0.0))
    for name in ("average_precision", "roc_auc"):
        gain = difference(shifted, same, ranked_within(FOLDS, name), seed=0, rounds=20)
        assert (gain.value, gain.lo, gain.hi) == (0.0, 0.0, 0.0)
    pooled = difference(shifted, same, clip_ap, seed=0, rounds=0)
    assert pooled.value is not None
    assert pooled.value < -0.05


def test_a_fold_of_one_kind_of_clip_says_nothing() -> None:
    found = answers((0.0, 0.0, 0.0))
    alone = [replace(s, kind="crash") if FOLDS[s.group] == 1 else s for s in found.samples]
    some = [i for i, sample in enumerate(alone) if FOLDS[sample.group] != 1]
    changed = Answers(scorer="x", samples=alone, scores=found.scores)
    for name in ("average_precision", "roc_auc"):
        metric = ranked_within(FOLDS, name)
        assert value_of(changed, metric, seed=0, rounds=0) == value_of(changed.of(some), metric, seed=0, rounds=0)
    crashes = changed.crashes()
    assert value_of(crashes, ranked_within(FOLDS, "roc_auc"), seed=0, rounds=0).value is None
