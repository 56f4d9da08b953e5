"""Readers of each form of answer from logits: yes or no, a time, an interval, free text."""

from edge_sdk.reasoning.forms.readers import prepare, reader_for
from edge_sdk.reasoning.forms.scores import MIN_FORM_SHARE, MIN_TEXT_PROBABILITY

__all__ = ["MIN_FORM_SHARE", "MIN_TEXT_PROBABILITY", "prepare", "reader_for"]
