"""Free text: the tokens of greedy decoding and no others, and an end whatever the model does."""

from __future__ import annotations

from math import exp, inf, nan

import numpy as np
import pytest
from answer_driver import Path, context, drive, random_model, train_bpe
from numpy.typing import NDArray

from edge_sdk.bundle.manifest_language import AnswerCalibration, FusedFit
from edge_sdk.errors import RuntimeFailure
from edge_sdk.reasoning.answer import AnswerContext, Verdict
from edge_sdk.reasoning.forms import reader_for
from edge_sdk.reasoning.forms.free_text import TextReader
from edge_sdk.reasoning.forms.time_reader import TimeReader
from edge_sdk.reasoning.forms.yes_no import YesNoReader
from edge_sdk.reasoning.sighting import Sighting
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import TASKS, find_task

TASK = find_task("cause")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(300)


class Reciting:
    """Says `ids` and then the end, each with probability `sure`."""

    def __init__(self, size: int, ids: Path, sure: float = 0.9) -> None:
        self._size, self._ids, self._sure = size, ids, sure

    def __call__(self, path: Path) -> NDArray[np.float32]:
        assert path == self._ids[: len(path)]
        row = np.full(self._size, np.log((1 - self._sure) / (self._size - 1)), np.float32)
        row[self._ids[len(path)]] = np.log(self._sure)
        return row


def test_text_is_said_whole_and_streamed_in_whole_characters(tokenizer: Tokenizer) -> None:
    text = "no collision. caf\u00e9 \U0001f697"
    ids, end = tuple(tokenizer.encode(text).tolist()), tokenizer.control.im_end
    reader = TextReader(TASK, tokenizer, context(end_token=end, grid="364x196"))
    run = drive(reader, Reciting(tokenizer.size, (*ids, end)))
    answer = run.answer
    assert (answer.text, reader.ids, "".join(run.pieces)) == (text, ids, text)
    assert not any("\ufffd" in piece for piece in run.pieces)
    assert [[each.tokens for each in step] for step in run.steps] == [*([(token,)] for token in ids), []]
    assert answer.probability == pytest.approx(0.9, rel=1e-5)
    assert (answer.value, answer.form, answer.tokens, answer.abstain) == (None, "text", len(ids), False)
    assert (answer.grid, answer.calibrated, answer.form_share) == ("364x196", False, None)


def test_the_probability_is_the_geometric_mean_end_included(tokenizer: Tokenizer) -> None:
    end, model = tokenizer.control.im_end, random_model(tokenizer.size, seed=1)
    reader = TextReader(TASK, tokenizer, context(end_token=end, max_tokens=9))
    answer = drive(reader, model).answer
    path, logs = (), []
    for token in reader.ids:
        row = model(path).astype(np.float64)
        assert token == row.argmax()
        logs.append(row[token] - np.log(np.exp(row).sum()))
        path = (*path, token)
    assert len(reader.ids) == 9
    assert answer.probability == pytest.approx(exp(np.mean(logs)), rel=1e-5)


@pytest.mark.parametrize("most", [1, 2, 128])
def test_an_answer_that_never_ends_is_cut_and_abstains(tokenizer: Tokenizer, most: int) -> None:
    token = int(tokenizer.encode("c")[0])
    model = Reciting(tokenizer.size, (token,) * (most + 1))
    run = drive(TextReader(TASK, tokenizer, context(max_tokens=most)), model)
    assert (run.answer.text, run.answer.abstain) == ("c" * most, True)
    assert run.answer.tokens == run.taken == most - 1


def test_an_end_at_once_is_an_empty_answer_that_abstains(tokenizer: Tokenizer) -> None:
    end = tokenizer.control.im_end
    run = drive(TextReader(TASK, tokenizer, context(end_token=end)), Reciting(tokenizer.size, (end,)))
    assert run.steps == [()]
    assert (run.answer.text, run.answer.tokens, run.answer.abstain) == ("", 0, True)


def test_any_of_several_end_tokens_ends(tokenizer: Tokenizer) -> None:
    say, other = int(tokenizer.encode("c")[0]), tokenizer.control.im_start
    given = context(max_tokens=5)
    reader = TextReader(TASK, tokenizer, type(given)(first_s=0.0, last_s=1.0, end_tokens=(9, other)))
    assert drive(reader, Reciting(tokenizer.size, (say, other))).answer.text == "c"


def test_a_text_said_with_little_confidence_abstains(tokenizer: Tokenizer) -> None:
    ids, end = tuple(tokenizer.encode("car hits a truck").tolist()), tokenizer.control.im_end
    for sure in (0.25, 0.35):
        reader = TextReader(TASK, tokenizer, context(end_token=end))
        assert drive(reader, Reciting(tokenizer.size, (*ids, end), sure)).answer.abstain is (sure < 0.3)
    fit = {TASK.id: AnswerCalibration(offset=2.0)}
    reader = TextReader(TASK, tokenizer, context(end_token=end, calibration=fit))
    answer = drive(reader, Reciting(tokenizer.size, (*ids, end), 0.25)).answer
    assert answer.probability == pytest.approx(1 / (1 + 3 * exp(-2.0)), rel=1e-4)
    assert (answer.calibrated, answer.abstain) == (True, False)
    for least in (0.6, 0.8):
        fit = {TASK.id: AnswerCalibration(offset=2.0, abstain_below=least)}
        reader = TextReader(TASK, tokenizer, context(end_token=end, calibration=fit))
        assert drive(reader, Reciting(tokenizer.size, (*ids, end), 0.25)).answer.abstain is (least > 0.71)


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_logits_that_are_no_numbers_fail_with_the_task_s_name(tokenizer: Tokenizer, bad: float) -> None:
    row = np.full(tokenizer.size, bad, np.float32)
    with pytest.raises(RuntimeFailure, match=r"^cause: expected the largest logit to be a finite number"):
        TextReader(TASK, tokenizer, context()).read({0: row})


def test_before_its_end_an_answer_says_what_there_is(tokenizer: Tokenizer) -> None:
    model = random_model(tokenizer.size, seed=2)
    reader = TextReader(TASK, tokenizer, context())
    assert (reader.answer().text, reader.answer().probability) == ("", None)
    reader.read({0: model(())})
    assert reader.answer().text == tokenizer.decode(reader.ids)
    assert reader.answer().abstain


def test_every_form_has_its_reader_and_any_may_be_read_freely(tokenizer: Tokenizer) -> None:
    kinds = {"yes_no": YesNoReader, "time": TimeReader, "interval": TimeReader, "text": TextReader}
    for task in TASKS:
        assert isinstance(reader_for(task, tokenizer, context()), kinds[task.form])
        free = reader_for(task, tokenizer, context(max_tokens=4), free=True)
        answer = drive(free, random_model(tokenizer.size)).answer
        assert (answer.task, answer.form, answer.value, len(free.ids)) == (task.id, "text", None, 4)


def with_verdict(tokenizer: Tokenizer, crash: bool | None, fit: AnswerCalibration | None = None) -> AnswerContext:
    given = fit or AnswerCalibration(scale=3.0, with_student=FusedFit(scale=0.5, offset=0.2, abstain_below=0.3))
    return context(
        end_token=tokenizer.control.im_end,
        calibration={TASK.id: given},
        sighting=Sighting(score=0.4),
        verdict=Verdict(crash=crash, probability=0.8),
    )


def test_without_a_crash_by_both_it_is_the_task_s_own_sentence_and_nothing_is_decoded(tokenizer: Tokenizer) -> None:
    reader = TextReader(TASK, tokenizer, with_verdict(tokenizer, False))
    run = drive(reader, random_model(tokenizer.size))
    assert (run.answer.text, run.taken, reader.ids) == ("No accident, no cause.", 0, ())
    assert "".join(run.pieces) == run.answer.text
    assert (run.answer.with_student, run.answer.calibrated, run.answer.abstain) == (True, True, False)
    assert run.answer.probability == 0.8


def test_with_a_crash_by_both_no_text_denies_it(tokenizer: Tokenizer) -> None:
    """The model would deny it, in any way; the next best beginning is taken, and greedy decoding goes on behind it."""
    end = tokenizer.control.im_end
    said = tuple(tokenizer.encode("car turns.").tolist())
    pieces = {token: tokenizer.token_bytes(token).decode("utf-8", "replace") for token in range(tokenizer.size)}
    no = sorted(token for token, piece in pieces.items() if piece and piece.strip().lower() in ("", "n", "no"))
    assert {"n", "N", " ", "\n", "No", "no"} <= {pieces[token] for token in no}

    def model(path: Path) -> NDArray[np.float32]:
        row = np.full(tokenizer.size, -9.0, np.float32)
        row[(*said, end)[len(path)]] = 2.0
        if not path:
            row[no] = 5.0
        return row

    run = drive(TextReader(TASK, tokenizer, with_verdict(tokenizer, True)), model)
    assert run.answer.text == "car turns."
    steps, path = [], ()
    for token in (*said, end):
        logits = model(path).astype(np.float64)
        if not path:
            logits[no] = -inf
        steps.append(logits[token] - np.log(np.exp(logits).sum()))
        path = (*path, token)
    own = exp(np.mean(steps))
    words = 1 / (1 + exp(-(0.5 * np.log(own / (1 - own)) + 0.2)))
    assert run.answer.probability == pytest.approx(0.8 * words, rel=1e-4)
    assert run.answer.with_student


@pytest.mark.parametrize("crash", [True, False])
def test_a_text_is_the_model_s_own_without_a_fit_of_both_a_verdict_or_as_free_text(
    tokenizer: Tokenizer, crash: bool
) -> None:
    ids, end = tuple(tokenizer.encode("No accident, no cause.").tolist()), tokenizer.control.im_end
    for given in (with_verdict(tokenizer, None), with_verdict(tokenizer, crash, AnswerCalibration(scale=3.0))):
        answer = drive(TextReader(TASK, tokenizer, given), Reciting(tokenizer.size, (*ids, end))).answer
        assert (answer.text, answer.with_student) == ("No accident, no cause.", False)
        assert answer.probability == pytest.approx(1 / (1 + exp(-3.0 * np.log(0.9 / 0.1))), rel=1e-4)
    word = tuple(tokenizer.encode("No").tolist())
    both = AnswerCalibration(with_student=FusedFit())
    verdict = context(
        end_token=end,
        calibration={"recognition": both},
        sighting=Sighting(score=0.4),
        verdict=Verdict(crash=crash, probability=0.8),
    )
    free = reader_for(find_task("recognition"), tokenizer, verdict, free=True)
    assert drive(free, Reciting(tokenizer.size, (*word, end))).answer.text == "No"
