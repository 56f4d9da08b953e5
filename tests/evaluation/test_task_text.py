"""Text scores against nltk and rouge-score themselves, and the constants that CrashChat's own files imply.

The numbers of blind answers are those of the 1,838 validation clips; the reference page's are of the test split, which
is not here (BLEU of the cause's negative .162, of "ego-car hits a car" .273; ROUGE-1 .3725 and .466).
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu
from rouge_score.rouge_scorer import RougeScorer

from edge_sdk.errors import ConfigError, MissingDependencyError
from edge_sdk.evaluation.tasks import read_annotations, text
from edge_sdk.evaluation.tasks.blind import best_texts
from edge_sdk.evaluation.tasks.draws import Draws
from edge_sdk.tasks import find_task

SENTENCES = [
    "ego-car hits a car",
    "car hits car",
    "no collision.",
    "Vehicles do not give way to normal driving vehicles when turning or changing lanes.",
    "Vehicles drive too fast with short braking distances.",
    "Ego-car hits a Car",
    "truck",
]


def nltk_bleu(truths: list[str], answers: list[str]) -> float:
    references, said = [[truth.split()] for truth in truths], [answer.split() for answer in answers]
    return float(corpus_bleu(references, said, smoothing_function=SmoothingFunction().method1))


def values(truths: list[str], answers: list[str]) -> dict[str, float | None]:
    draws = Draws(np.ones((1, len(truths))))
    return {name: each.value for name, each in text.scores(truths, answers, draws).items()}


@pytest.mark.parametrize("seed", range(20))
def test_bleu_is_nltks_corpus_bleu(seed: int) -> None:
    rng = random.Random(seed)
    truths, answers = rng.choices(SENTENCES, k=rng.randint(1, 12)), rng.choices([*SENTENCES, ""], k=12)
    answers = answers[: len(truths)]
    if not any(answers):
        answers[0] = "car"
    assert values(truths, answers)["bleu4"] == pytest.approx(nltk_bleu(truths, answers), abs=1e-12)


def test_bleu_of_a_resample_is_that_of_the_repeated_clips() -> None:
    draws = Draws.over([str(i) for i in range(7)], rounds=30, seed=2)
    answers = SENTENCES[1:] + SENTENCES[:1]
    drawn = text.of_sums(draws.total(text.clip_sums(SENTENCES, answers)))["bleu4"]
    for weights, score in zip(draws.weights, drawn, strict=True):
        repeated = [i for i, weight in enumerate(weights) for _ in range(int(weight))]
        expected = nltk_bleu([SENTENCES[i] for i in repeated], [answers[i] for i in repeated])
        assert score == pytest.approx(expected, abs=1e-12)


def test_bleu_minds_case_and_punctuation_and_rouge_does_not() -> None:
    found = values(["no collision."], ["No collision"])
    assert found["bleu4"] == 0.0
    assert found["rouge1_f"] == found["rougeL_f"] == 1.0
    assert found["exact"] == 0.0


def test_rouge_is_the_mean_of_rouge_score_with_stems() -> None:
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    truths, answers = SENTENCES, SENTENCES[2:] + SENTENCES[:2]
    rows = [scorer.score(truth, answer) for truth, answer in zip(truths, answers, strict=True)]
    found = values(truths, answers)
    for kind in ("rouge1", "rouge2", "rougeL"):
        parts = np.mean([row[kind] for row in rows], axis=0)
        assert [found[f"{kind}_{part}"] for part in ("precision", "recall", "f")] == pytest.approx(list(parts))


def test_rouge_by_hand() -> None:
    # "hit" and "hits" share a stem: 4 of 4 words found, 4 of 5 said.
    found = values(["car hits a truck"], ["the car hit a truck"])
    assert found["rouge1_precision"] == pytest.approx(4 / 5)
    assert found["rouge1_recall"] == 1.0
    assert found["rouge2_f"] == pytest.approx(2 * (3 / 4) * 1.0 / (3 / 4 + 1.0))


def test_an_empty_answer_is_wrong_and_a_list_that_is_too_short_refused() -> None:
    assert set(values(["car hits car"], [""]).values()) == {0.0}
    with pytest.raises(ConfigError, match="2 and 1"):
        values(["a", "b"], ["a"])


@pytest.mark.parametrize("module", ["nltk.translate.bleu_score", "rouge_score.rouge_scorer"])
def test_a_missing_package_is_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_sdk.evaluation.tasks import rouge

    rouge._scorer.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match="pip install 'nltk"):
        values(["never scored before"], [f"without {module}"])


# task: BLEU and ROUGE-1 of the negative sentence, of the commonest crash answer, and of a right yes/no with that answer
BLIND = {
    "description": ((0.0026, 0.3803), (0.2736, 0.4659), (0.3927, 0.8462)),
    "cause": ((0.1706, 0.3847), (0.0702, 0.1588), (0.2381, 0.5391)),
    "prevention": ((0.0039, 0.3828), (0.1188, 0.2497), (0.1599, 0.6300)),
}


@pytest.mark.parametrize("task", BLIND)
def test_what_blind_answers_score_on_the_validation_files(task: str, shared_data: Path) -> None:
    truths = [truth.answer for truth in read_annotations(shared_data / "crashchat-val").of(task).values()]
    negative = find_task(task).negative or ""
    common = next(answer for answer, _ in Counter(truths).most_common(2) if answer != negative)
    oracle = [truth if truth == negative else common for truth in truths]
    for answers, expected in zip(([negative] * 1838, [common] * 1838, oracle), BLIND[task], strict=True):
        found = values(truths, answers)
        assert (found["bleu4"], found["rouge1_f"]) == pytest.approx(expected, abs=5e-5)
        assert found["bleu4"] == pytest.approx(nltk_bleu(truths, answers), abs=1e-12)


def test_a_rare_answer_can_be_the_best_constant() -> None:
    """Twenty pairs of words of their own, and one answer, given once, that shares words with nine others."""
    rare = "the car hits the truck"
    truths = [f"{letter}x {letter}y" for letter in "abcdefghijklmnopqrst" for _ in range(2)]
    truths += [rare, *(f"{rare} number{i}" for i in range(9))]
    best = best_texts(truths)["rouge1_f"]
    scores = {answer: values(truths, [answer] * len(truths))["rouge1_f"] for answer in dict.fromkeys(truths)}
    assert best == rare == max(scores, key=lambda answer: scores[answer] or 0.0)


def test_the_best_constant_is_at_least_as_good_as_every_common_one(shared_data: Path) -> None:
    truths = [truth.answer for truth in read_annotations(shared_data / "crashchat-val").of("description").values()]
    best = best_texts(truths)
    for answer, _ in Counter(truths).most_common(8):
        for name, score in values(truths, [answer] * len(truths)).items():
            reached = values(truths, [best[name]] * len(truths))[name]
            assert score is not None
            assert reached is not None
            assert reached >= score - 1e-12
