"""Corpus BLEU-4 as the reference computes it: nltk, words split at white space, case kept, smoothing method 1.

nltk counts each pair of reference and answer once. Sums of these counts give the corpus score of any resample, so a
bootstrap needs no second count. Papineni et al. 2002; method 1 of Chen and Cherry 2014.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from edge_sdk.errors import MissingDependencyError
from edge_sdk.evaluation.tasks.draws import Floats, ratio
from edge_sdk.packages import pip_install

ORDERS = 4
# Method 1 uses this number in place of 0 matches; nltk's default.
EPSILON = 0.1
COUNTS = 2 * ORDERS + 2


def pair_counts(truth: str, answer: str) -> tuple[float, ...]:
    """Return ten counts of one pair: matched n-grams for n = 1..4, n-grams of the answer, and both lengths.

    As in nltk, an answer shorter than n counts one n-gram, unmatched. The lengths are the answer's, then the truth's.
    Raises `MissingDependencyError` without nltk.
    """
    try:
        from nltk.translate.bleu_score import closest_ref_length, modified_precision
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"text scores need the package 'nltk', which is not installed; run: {pip_install('evaluate')}"
        ) from error
    words, references = answer.split(), [truth.split()]
    shares = [modified_precision(references, words, n) for n in range(1, ORDERS + 1)]
    lengths = (len(words), closest_ref_length(references, len(words)))
    return (*(share.numerator for share in shares), *(share.denominator for share in shares), *lengths)


def of_counts(sums: ArrayLike) -> Floats:
    """Compute BLEU-4 of summed counts `[..., 10]`: brevity penalty times geometric mean of the four precisions."""
    counts = np.asarray(sums, np.float64)
    matched, whole = counts[..., :ORDERS], counts[..., ORDERS : 2 * ORDERS]
    said, truth = counts[..., -2], counts[..., -1]
    shares = ratio(np.where(matched == 0, EPSILON, matched), whole, empty=1.0)
    brevity = np.where(said > truth, 1.0, np.exp(1 - ratio(truth, said, empty=np.inf)))
    score: Floats = np.where(matched[..., 0] == 0, 0.0, brevity * np.exp(np.log(shares).mean(axis=-1)))
    return score
