"""Read yes or no from the logits after the question; if each word is one token, nothing is decoded.

The tokens that count are found by their text. Besides "Yes" and "No", these are the single tokens that differ from them
in case or by a leading space. A small vocabulary may spell a word in several tokens; such a word is followed along its
spelling, and its probability is the product of its tokens' probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from edge_sdk.bundle.manifest_language import AnswerFit
from edge_sdk.reasoning.answer import Answer, AnswerContext, Floats, Fusion, Growth
from edge_sdk.reasoning.forms.scores import EVEN, MIN_FORM_SHARE, Scores, doubtful, log_odds, sigmoid
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import Task

Path = tuple[int, ...]
WORDS = {"Yes": True, "No": False}


def spellings(tokenizer: Tokenizer) -> dict[Path, bool]:
    """Return the token paths that mean yes (True) or no (False): the tuned words' spelling, and one-token variants."""
    found: dict[Path, bool] = {}
    for word, meaning in WORDS.items():
        for variant in (word, *_variants(word)):
            path = tuple(tokenizer.encode(variant).tolist())
            if len(path) == 1 or variant == word:
                found[path] = meaning
    return found


class YesNoReader:
    """Weighs the two words against each other.

    The value is the result of greedy decoding restricted to the two words; `probability` is that of the value relative
    to the other word. The answer abstains if both words together have less than `MIN_FORM_SHARE`, or if after
    calibration the other word is likelier or this one is below the calibration's threshold. Joined with the student,
    the value is the word that is likelier by their joint evidence.
    """

    def __init__(self, task: Task, tokenizer: Tokenizer, context: AnswerContext) -> None:
        self._task, self._tokenizer, self._context = task, tokenizer, context
        self._meanings = spellings(tokenizer)
        self._logs: dict[Path, float] = {(): 0.0}
        self._grown: dict[int, Path] = {0: ()}
        self._leaves: dict[Path, int] = {(): 0}
        self._greedy: Path | None = None
        self._shown = False

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens of the word that greedy decoding gives, once it is known."""
        return self._greedy or ()

    def read(self, logits: Mapping[int, Floats]) -> Sequence[Growth]:
        """Weigh the tokens after each prefix of a word, and return what to grow. Raises `RuntimeFailure`."""
        begun: list[Path] = []
        for leaf, row in logits.items():
            scores, prefix = Scores(row, self._task.id), self._grown.pop(leaf)
            following = np.array(sorted(self._following(prefix)), np.int64)
            logs = self._logs[prefix] + scores.of(following) - scores.log_total()
            paths = [(*prefix, token) for token in following.tolist()]
            self._logs.update(zip(paths, logs.tolist(), strict=True))
            begun += [path for path in paths if path not in self._meanings]
        growths = [self._grow(path) for path in begun]
        if not self._grown:
            self._greedy = self._walk()
            self._settle()
        return growths

    def _settle(self) -> None:
        """Store the joint verdict for the other answers of the conversation."""
        answer, verdict = self.answer(), self._context.verdict
        if answer.with_student and isinstance(answer.value, bool) and answer.probability is not None:
            verdict.crash, verdict.probability = answer.value, answer.probability

    def pieces(self) -> str:
        """Return the word, once."""
        if self._greedy is None or self._shown:
            return ""
        self._shown = True
        return self._tokenizer.decode(self._greedy).strip()

    def answer(self) -> Answer:
        """Return the word with its probability; without a value if neither word is possible at all."""
        told = self._greedy is not None
        yes, no = (self._log_of(meaning) if told else -math.inf for meaning in (True, False))
        share = min(math.exp(yes) + math.exp(no), 1.0)
        answer = Answer(
            task=self._task.id,
            form=self._task.form,
            form_share=share if told else None,
            tokens=len(self._leaves) - 1,
            grid=self._context.grid,
        )
        if self._greedy is None or not share:
            return answer
        both = self._context.fused(self._task.id)
        odds, fit = self._calibrated(yes - no, both)
        value = self._meanings[self._greedy] if both is None else odds >= 0
        probability = sigmoid(odds if value else -odds)
        doubted = fit is not None and (probability < EVEN or doubtful(probability, fit))
        return msgspec.structs.replace(
            answer,
            value=value,
            text=self._tokenizer.decode(self._greedy).strip(),
            probability=probability,
            calibrated=fit is not None,
            abstain=share < MIN_FORM_SHARE or doubted,
            with_student=both is not None,
        )

    def _calibrated(self, odds: float, both: Fusion | None) -> tuple[float, AnswerFit | None]:
        """Return the calibrated log odds of yes, joined with the student's if `both` is given, and the fit used."""
        if both is not None:
            fit, sighting = both
            own = log_odds(sigmoid(odds))  # bounded, so that no certainty outweighs the student completely
            return fit.scale * own + fit.student_weight * log_odds(sighting.score) + fit.offset, fit
        alone = self._context.calibration.get(self._task.id)
        return (odds if alone is None else alone.scale * odds + alone.offset), alone

    def _following(self, prefix: Path) -> set[int]:
        length = len(prefix)
        return {path[length] for path in self._meanings if path[:length] == prefix and len(path) > length}

    def _grow(self, path: Path) -> Growth:
        leaf = len(self._leaves)
        self._leaves[path] = leaf
        self._grown[leaf] = path
        return Growth(leaf=self._leaves[path[:-1]], tokens=path[-1:])

    def _walk(self) -> Path:
        """Return the word that greedy decoding gives: the likeliest token at each step."""
        path: Path = ()
        while path not in self._meanings:
            path = max(((*path, token) for token in sorted(self._following(path))), key=self._logs.__getitem__)
        return path

    def _log_of(self, meaning: bool) -> float:
        return _log_sum(self._logs[path] for path, each in self._meanings.items() if each == meaning)


def _variants(word: str) -> list[str]:
    cases = (word, word.lower(), word.upper())
    return [space + case for space in ("", " ") for case in cases if space + case != word]


def _log_sum(logs: Iterable[float]) -> float:
    """Return the log of the sum of exponentials, -inf for no values."""
    values = list(logs)
    top = max(values, default=-math.inf)
    return top if math.isinf(top) else top + math.log(sum(math.exp(each - top) for each in values))
