"""Find the tokens that begin a task's own sentence for clips without a crash, such as "No accident, no cause."."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import TASKS


class Denials:
    """The tokens of one tokenizer that may begin a text that denies a crash."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Scan every token once for those that are only blanks, or a beginning of the sentence's first word."""
        words = {task.negative.split()[0].casefold() for task in TASKS if task.form == "text" and task.negative}
        self._begin: dict[str, list[int]] = {word: [] for word in words}
        longest = max(map(len, words))
        for token in range(tokenizer.size):
            spelled = tokenizer.token_bytes(token)
            part = spelled.decode("utf-8", "replace").strip().casefold()
            if not spelled or len(part) > longest:
                continue
            for word, tokens in self._begin.items():
                if word.startswith(part):
                    tokens.append(token)

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Denials:
        """Return the denials of `tokenizer`, computed once."""
        if tokenizer not in _KNOWN:
            _KNOWN[tokenizer] = cls(tokenizer)
        return _KNOWN[tokenizer]

    def first(self, negative: str) -> NDArray[np.int64]:
        """Return the tokens, ascending, that may begin the sentence `negative` of a free-text task, ignoring case."""
        return np.array(self._begin[negative.split()[0].casefold()], np.int64)


_KNOWN: WeakKeyDictionary[Tokenizer, Denials] = WeakKeyDictionary()
