"""The numbers of the proof against their definitions, worked out by numpy."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.export.quantise.evidence import answer_change


def test_divergence_and_agreement_are_those_of_the_definitions() -> None:
    random = np.random.default_rng(0)
    exact = random.standard_normal((6, 40)) * 3
    found = exact + random.standard_normal((6, 40)) * 0.5
    found[2, exact[2].argmax()] -= 50
    p, q = (np.exp(each) / np.exp(each).sum(1, keepdims=True) for each in (exact, found))
    expected = (p * np.log(p / q)).sum(1)
    change = answer_change(found.astype(np.float32), exact.astype(np.float32))
    assert change.mean_kl == pytest.approx(expected.mean(), rel=1e-4)
    assert change.largest_kl == pytest.approx(expected.max(), rel=1e-4)
    assert change.equal_tokens == int((p.argmax(1) == q.argmax(1)).sum()) < 6
    same = answer_change(exact.astype(np.float32), exact.astype(np.float32))
    assert (same.mean_kl, same.equal_tokens) == (0.0, 6)
