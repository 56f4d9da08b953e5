"""Evaluation: metrics, the protocol for real and rendered clips, trivial scorers, and the report.

`scorer.py` defines the interface of a scorer. `trivial`, `detail` and `student` read video; import them from their own
modules.
"""

from __future__ import annotations

from edge_sdk.evaluation.report import Evaluation, Row, Table, to_markdown
from edge_sdk.evaluation.samples import Sample
from edge_sdk.evaluation.scorer import ClipScores, Guess, Scorer
from edge_sdk.evaluation.sets import read_sets

__all__ = [
    "ClipScores",
    "Evaluation",
    "Guess",
    "Row",
    "Sample",
    "Scorer",
    "Table",
    "read_sets",
    "to_markdown",
]
