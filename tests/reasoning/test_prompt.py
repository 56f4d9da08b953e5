"""Prompts: their text, their pieces, and what is refused. Ids against the reference are compared in tests/export."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.reasoning import CONTROL_TOKENS, Prompt, PromptFrame, Tokenizer, kept_frame

IM_START, IM_END, IMAGE = (CONTROL_TOKENS[content] for content in ("<|im_start|>", "<|im_end|>", "<image>"))


def frames(*times: float, tokens: int = 2) -> list[PromptFrame]:
    return [PromptFrame(time_s=time, tokens=tokens) for time in times]


def test_the_text_of_a_prompt(tokenizer: Tokenizer) -> None:
    assert Prompt(tokenizer).text(frames(0.0, 0.1), "What?") == (
        "<|im_start|>user\nTime 0.0s:<image><image>,Time 0.1s:<image><image>\nWhat?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_evaluation_leaves_its_mark(tokenizer: Tokenizer) -> None:
    text = Prompt(tokenizer, eval_compat=True).text(frames(0.0, tokens=1), "What?")
    assert text == "<|im_start|>user\nTime 0.0s:<image>\n<video>\nWhat?<|im_end|>\n<|im_start|>assistant\n"


def test_space_around_a_question_is_dropped(tokenizer: Tokenizer) -> None:
    prompt = Prompt(tokenizer)
    np.testing.assert_array_equal(prompt.question(" What?\n"), prompt.question("What?"))


def test_ids_spell_the_text(tokenizer: Tokenizer) -> None:
    ids = Prompt(tokenizer).whole(frames(0.0, 10.0), "What?").tolist()
    named = {IM_START: "<|im_start|>", IM_END: "<|im_end|>", IMAGE: "<image>"}
    spelt = "".join(named.get(token) or tokenizer.decode([token]) for token in ids)
    assert spelt == Prompt(tokenizer).text(frames(0.0, 10.0), "What?")


def test_pieces_are_what_the_whole_is_made_of(tokenizer: Tokenizer) -> None:
    prompt, shown = Prompt(tokenizer), frames(0.0, 0.1, 0.2, tokens=3)
    pieces = [prompt.header()]
    pieces += [prompt.frame(frame, first=index == 0) for index, frame in enumerate(shown)]
    pieces.append(prompt.question("What?"))
    np.testing.assert_array_equal(np.concatenate(pieces), prompt.whole(shown, "What?"))
    assert all(piece.dtype == np.int64 for piece in pieces)
    assert [int((piece == IMAGE).sum()) for piece in pieces] == [0, 3, 3, 3, 0]
    assert all(set(piece[-3:].tolist()) == {IMAGE} for piece in pieces[1:4])


def test_a_kept_header_is_the_callers_own(tokenizer: Tokenizer) -> None:
    prompt = Prompt(tokenizer)
    prompt.header()[:] = 0
    assert prompt.header()[0] == IM_START


def test_token_compression_shortens_a_frame(tokenizer: Tokenizer) -> None:
    keep = np.zeros(91, bool)
    keep[[0, 7, 90]] = True
    ids = Prompt(tokenizer).frame(kept_frame(0.1, keep), first=False)
    assert int((ids == IMAGE).sum()) == 3


@pytest.mark.parametrize(
    ("time_s", "shown"),
    [(0.0, "0.0"), (0.04, "0.0"), (0.083, "0.1"), (0.30000000000000004, "0.3"), (9.5, "9.5"), (123.46, "123.5")],
)
def test_times_have_one_decimal(tokenizer: Tokenizer, time_s: float, shown: str) -> None:
    assert f"user\nTime {shown}s:<image>" in Prompt(tokenizer).text(frames(time_s, tokens=1), "What?")


@pytest.mark.parametrize("time_s", [0.05, 0.15, 0.35, 0.45, 1.05])
def test_ties_are_rounded_as_the_reference_rounds_them(tokenizer: Tokenizer, time_s: float) -> None:
    shown = str(round(np.float64(time_s), 1))
    assert f"Time {shown}s:" in Prompt(tokenizer).text(frames(time_s, tokens=1), "What?")


def test_what_makes_no_prompt(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="at least one frame"):
        Prompt(tokenizer).whole([], "What?")
    with pytest.raises(ConfigError, match="at least 1 image token, found 0"):
        kept_frame(0.0, np.zeros(4, bool))
    with pytest.raises(ConfigError, match="number of seconds, found nan"):
        PromptFrame(time_s=float("nan"), tokens=1)
