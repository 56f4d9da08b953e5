"""How well scorers rank clips, judged only within the folds of a cross-validation.

Students of different folds have different score scales. A ranking over all clips compares scores of different students,
so five students look worse than one equally good student for all clips. Clips are therefore compared only with clips of
their own fold, for every scorer alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from edge_sdk.evaluation.metrics import Ranking
from edge_sdk.evaluation.paired import ByGroup, Floats, group_codes
from edge_sdk.evaluation.rows import Answers

Statistic = Literal["average_precision", "roc_auc"]


def ranked_within(folds: Mapping[str, int], statistic: Statistic) -> Callable[[Answers], ByGroup]:
    """Return the metric as a function of the groups' weights; `folds` maps each group's name to its fold.

    Average precision is averaged over folds weighted by their crashes, ROC AUC weighted by their pairs of a crash and
    another clip. Either then covers what the pooled metric covers, except pairs across folds. Folds with only one class
    are skipped.
    """

    def metric(answers: Answers) -> ByGroup:
        places = np.array([folds[sample.group] for sample in answers.samples])
        parts = [answers.of([int(i) for i in np.flatnonzero(places == fold)]) for fold in np.unique(places)]
        ranked = [(Ranking([s.crash for s in part.samples], [a.score for a in part.scores])) for part in parts]
        codes = group_codes(answers)
        chosen = [codes[places == fold] for fold in np.unique(places)]

        def value(weight: Floats) -> float:
            said, shares = [], []
            for ranking, own in zip(ranked, chosen, strict=True):
                crashes, others = weight[own] @ ranking.truth, weight[own] @ ~ranking.truth
                if crashes * others > 0:
                    said.append(getattr(ranking, statistic)(weight[own]))
                    shares.append(crashes if statistic == "average_precision" else crashes * others)
            return float(np.average(said, weights=shares)) if said else float("nan")

        return value

    return metric
