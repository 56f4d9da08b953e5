"""ROUGE-1, -2 and -L as the reference computes them: the package rouge-score, words stemmed, means over clips.

Lin 2004. ROUGE-L treats the whole answer as one sentence (longest common subsequence).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

from edge_sdk.errors import MissingDependencyError
from edge_sdk.packages import pip_install

KINDS = ("rouge1", "rouge2", "rougeL")
PARTS = ("precision", "recall", "f")
NAMES = tuple(f"{kind}_{part}" for kind, part in product(KINDS, PARTS))


def pair_scores(truth: str, answer: str) -> tuple[float, ...]:
    """Return nine scores of `answer` against `truth`, in the order of `NAMES`.

    Raises `MissingDependencyError` without rouge-score.
    """
    found = _scorer().score(truth, answer)
    return tuple(float(part) for kind in KINDS for part in found[kind])


# Any: rouge-score has no type annotations.
@lru_cache(maxsize=1)
def _scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"text scores need the package 'rouge-score', which is not installed; run: {pip_install('evaluate')}"
        ) from error
    return RougeScorer(list(KINDS), use_stemmer=True)
