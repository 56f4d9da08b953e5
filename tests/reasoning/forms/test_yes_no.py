"""Yes and no: the probability of the words as the vocabulary spells them, and the word that greedy decoding says."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from answer_driver import Model, Path, context, drive, random_model, train_bpe
from numpy.typing import NDArray

from edge_sdk.bundle.manifest_language import AnswerCalibration, FusedFit
from edge_sdk.errors import RuntimeFailure
from edge_sdk.reasoning.answer import Verdict
from edge_sdk.reasoning.forms.yes_no import YesNoReader, spellings
from edge_sdk.reasoning.sighting import Sighting
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import find_task

TASK = find_task("recognition")
WORDS = {"Yes": True, "yes": True, " Yes": True, "YES": True, "No": False, "no": False, " No": False, "NO": False}


@pytest.fixture(scope="module")
def bytewise() -> Tokenizer:
    """Every word in single bytes."""
    return train_bpe(259)


@pytest.fixture(scope="module")
def whole() -> Tokenizer:
    """Some words in one token."""
    return train_bpe(700)


def _ids(tokenizer: Tokenizer, text: str) -> Path:
    return tuple(tokenizer.encode(text).tolist())


def _log_softmax(row: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = row.astype(np.float64)
    shifted = wide - wide.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def test_words_are_found_by_what_they_spell(whole: Tokenizer, bytewise: Tokenizer) -> None:
    found = spellings(whole)
    assert found[_ids(whole, "Yes")] is True
    assert found[_ids(whole, "No")] is False
    singles = {_ids(whole, word): meaning for word, meaning in WORDS.items() if len(_ids(whole, word)) == 1}
    assert len(singles) >= 4
    assert singles.items() <= found.items()
    assert {whole.decode(path).strip().lower() for path in found} == {"yes", "no"}
    assert sorted(map(len, spellings(bytewise))) == [2, 3]


def test_one_token_words_need_no_decoding(whole: Tokenizer) -> None:
    assert all(len(path) == 1 for path in spellings(whole))
    model = random_model(whole.size, seed=4)
    run = drive(YesNoReader(TASK, whole, context()), model)
    assert run.steps == [[]]
    logs = _log_softmax(model(()))
    yes, no = (
        sum(np.exp(logs[p[0]]) for p, said in spellings(whole).items() if said is each) for each in (True, False)
    )
    best = max(spellings(whole), key=lambda path: logs[path[0]])
    answer = run.answer
    assert answer.value is spellings(whole)[best]
    assert answer.text == whole.decode(best).strip()
    assert answer.probability == pytest.approx((yes if answer.value else no) / (yes + no), rel=1e-5)
    assert answer.form_share == pytest.approx(yes + no, rel=1e-5)
    assert (answer.tokens, answer.form, answer.lo, answer.hi) == (0, "yes_no", None, None)
    assert "".join(run.pieces) == answer.text


@pytest.mark.parametrize("seed", range(20))
def test_words_in_pieces_have_the_product_of_their_pieces(bytewise: Tokenizer, seed: int) -> None:
    model = random_model(bytewise.size, seed=seed, spread=1.0)
    answer = drive(YesNoReader(TASK, bytewise, context()), model).answer
    yes, no = (np.exp(_log_of(model, _ids(bytewise, word))) for word in ("Yes", "No"))
    first = _log_softmax(model(()))
    assert answer.value is bool(first[_ids(bytewise, "Y")[0]] > first[_ids(bytewise, "N")[0]])
    assert answer.probability == pytest.approx((yes if answer.value else no) / (yes + no), rel=1e-4)
    assert answer.form_share == pytest.approx(yes + no, rel=1e-4)
    assert answer.tokens == 3
    assert answer.abstain


def _log_of(model: Model, path: Path) -> float:
    return float(sum(_log_softmax(model(path[:place]))[token] for place, token in enumerate(path)))


def test_a_model_that_would_say_something_else_abstains(whole: Tokenizer) -> None:
    yes, other = _ids(whole, "Yes")[0], _ids(whole, "c")[0]
    for share in (0.45, 0.55):
        row = np.full(whole.size, -30.0, np.float32)
        row[yes], row[other] = np.log(share), np.log(1 - share)
        reader = YesNoReader(TASK, whole, context())
        assert list(reader.read({0: row})) == []
        answer = reader.answer()
        assert answer.value is True
        assert answer.form_share == pytest.approx(share, abs=1e-4)
        assert answer.abstain is (share < 0.5)


def test_calibration_moves_the_log_odds_of_yes_and_abstains_where_it_disagrees(whole: Tokenizer) -> None:
    row = np.full(whole.size, -30.0, np.float32)
    row[_ids(whole, "Yes")[0]], row[_ids(whole, "No")[0]] = 1.0, 0.0
    said = {}
    for name, fit in {"sure": (2.0, 0.0), "doubts": (1.0, -3.0)}.items():
        given = {TASK.id: AnswerCalibration(scale=fit[0], offset=fit[1])}
        reader = YesNoReader(TASK, whole, context(calibration=given))
        reader.read({0: row})
        said[name] = reader.answer()
    assert said["sure"].probability == pytest.approx(1 / (1 + np.exp(-2.0)), rel=1e-5)
    assert said["doubts"].probability == pytest.approx(1 / (1 + np.exp(2.0)), rel=1e-4)
    assert [(each.value, each.calibrated, each.abstain) for each in said.values()] == [
        (True, True, False),
        (True, True, True),
    ]


def test_a_word_below_the_threshold_of_its_calibration_abstains(whole: Tokenizer) -> None:
    row = np.full(whole.size, -30.0, np.float32)
    row[_ids(whole, "Yes")[0]], row[_ids(whole, "No")[0]] = 1.0, 0.0
    for least, abstains in ((0.7, False), (0.75, True)):
        given = {TASK.id: AnswerCalibration(abstain_below=least)}
        reader = YesNoReader(TASK, whole, context(calibration=given))
        reader.read({0: row})
        assert reader.answer().probability == pytest.approx(1 / (1 + np.exp(-1.0)), rel=1e-5)
        assert reader.answer().abstain is abstains


def test_a_low_threshold_gives_no_word_that_calibration_disagrees_with(whole: Tokenizer) -> None:
    """The log odds of yes are 1 - 1.6: no is likelier, whatever an answer must be worth."""
    row = np.full(whole.size, -30.0, np.float32)
    row[_ids(whole, "Yes")[0]], row[_ids(whole, "No")[0]] = 1.0, 0.0
    reader = YesNoReader(TASK, whole, context(calibration={TASK.id: AnswerCalibration(offset=-1.6, abstain_below=0.3)}))
    reader.read({0: row})
    answer = reader.answer()
    assert (answer.value, answer.abstain) == (True, True)
    assert answer.probability == pytest.approx(1 / (1 + np.exp(0.6)), rel=1e-5)


@pytest.mark.parametrize("score", [0.02, 0.4, 0.97])
def test_with_the_student_the_likelier_word_of_both_is_given(whole: Tokenizer, score: float) -> None:
    row = np.full(whole.size, -30.0, np.float32)
    row[_ids(whole, "Yes")[0]], row[_ids(whole, "No")[0]] = 0.0, 1.0
    both = FusedFit(scale=0.5, student_weight=1.5, offset=0.7, abstain_below=0.8)
    given = {TASK.id: AnswerCalibration(scale=2.0, offset=0.3, with_student=both)}
    odds = 0.5 * -1.0 + 1.5 * np.log(score / (1 - score)) + 0.7
    yes = 1 / (1 + np.exp(-odds))
    verdict = Verdict()
    reader = YesNoReader(TASK, whole, context(calibration=given, sighting=Sighting(score=score), verdict=verdict))
    reader.read({0: row})
    answer = reader.answer()
    assert (answer.value, answer.text, answer.with_student, answer.calibrated) == (odds > 0, "No", True, True)
    assert answer.probability == pytest.approx(max(yes, 1 - yes), rel=1e-5)
    assert answer.abstain == (max(yes, 1 - yes) < 0.8)
    # Texts of the same conversation are told.
    assert verdict.crash == (odds > 0)
    assert verdict.probability == answer.probability


def test_a_student_changes_nothing_where_it_did_not_watch_or_nothing_was_fitted(whole: Tokenizer) -> None:
    row = np.full(whole.size, -30.0, np.float32)
    row[_ids(whole, "Yes")[0]], row[_ids(whole, "No")[0]] = 1.0, 0.0
    alone, both = (
        AnswerCalibration(offset=0.2),
        AnswerCalibration(offset=0.2, with_student=FusedFit(student_weight=3.0)),
    )
    for fit, sighting in ((alone, Sighting(score=0.01)), (both, None)):
        reader = YesNoReader(TASK, whole, context(calibration={TASK.id: fit}, sighting=sighting))
        reader.read({0: row})
        answer = reader.answer()
        assert (answer.value, answer.with_student) == (True, False)
        assert answer.probability == pytest.approx(1 / (1 + np.exp(-1.2)), rel=1e-5)


def test_an_end_token_first_is_no_word(whole: Tokenizer) -> None:
    row = np.full(whole.size, -5.0, np.float32)
    row[whole.control.im_end] = 20.0
    reader = YesNoReader(TASK, whole, context())
    reader.read({0: row})
    assert reader.answer().abstain
    assert reader.answer().text in WORDS


def test_where_neither_word_is_possible_there_is_no_value(whole: Tokenizer) -> None:
    row = np.full(whole.size, -inf, np.float32)
    row[5] = 0.0
    reader = YesNoReader(TASK, whole, context())
    reader.read({0: row})
    answer = reader.answer()
    assert (answer.value, answer.probability, answer.form_share, answer.abstain) == (None, None, 0.0, True)


def test_logits_that_are_no_numbers_fail_with_the_task_s_name(whole: Tokenizer) -> None:
    for bad in (nan, inf):
        row = np.zeros(whole.size, np.float32)
        row[3] = bad
        with pytest.raises(RuntimeFailure, match="recognition"):
            YesNoReader(TASK, whole, context()).read({0: row})
    with pytest.raises(RuntimeFailure, match="recognition"):
        YesNoReader(TASK, whole, context()).read({0: np.full(whole.size, -inf, np.float32)})


def test_before_anything_is_read_there_is_nothing(whole: Tokenizer) -> None:
    reader = YesNoReader(TASK, whole, context())
    answer = reader.answer()
    assert (answer.value, answer.text, answer.form_share, answer.abstain) == (None, "", None, True)
    assert (reader.ids, reader.pieces()) == ((), "")
