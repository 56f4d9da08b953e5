"""The reader of each form of answer."""

from __future__ import annotations

from edge_sdk.reasoning.answer import AnswerContext, AnswerReader
from edge_sdk.reasoning.forms.denials import Denials
from edge_sdk.reasoning.forms.free_text import TextReader
from edge_sdk.reasoning.forms.spelling import Spelling
from edge_sdk.reasoning.forms.time_reader import TimeReader
from edge_sdk.reasoning.forms.yes_no import YesNoReader
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import Task


def prepare(tokenizer: Tokenizer) -> None:
    """Sort the vocabulary in advance (about 0.9 s for 152,000 tokens), so that the first answer need not wait for it.

    Raises `BundleError` for a tokenizer that cannot spell a time.
    """
    Spelling.of(tokenizer)
    Denials.of(tokenizer)


def reader_for(task: Task, tokenizer: Tokenizer, context: AnswerContext, *, free: bool = False) -> AnswerReader:
    """Return a reader for one answer to `task`; `free` reads any form as plain greedy text.

    Raises `ConfigError` for invalid times of the clip, and `BundleError` for a tokenizer that cannot spell times.
    """
    if free or task.form == "text":
        return TextReader(task, tokenizer, context)
    if task.form == "yes_no":
        return YesNoReader(task, tokenizer, context)
    return TimeReader(task, tokenizer, context)
