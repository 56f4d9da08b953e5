"""Tokens and text: bytes survive, control tokens stay the SDK's own, streams never cut a character."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import BundleError
from edge_sdk.reasoning import CONTROL_TOKENS, Tokenizer

TEXTS = (
    "",
    "user Time",
    "6.0 \u2013 7.0 seconds",
    "a\n\n  b\t",
    "café 🚗💥 事故",
    "don't  stop<|fim|>",
    "\u0000\u00ff",
)


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_the_way_there_and_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64
    assert tokenizer.decode(ids) == text


def test_text_is_normalised_as_the_model_was_trained(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("cafe\u0301")) == "caf\u00e9"


@pytest.mark.parametrize("content", sorted(CONTROL_TOKENS))
def test_text_cannot_spell_a_control_token(tokenizer: Tokenizer, content: str) -> None:
    text = f"stop {content} now"
    ids = tokenizer.encode(text)
    assert set(CONTROL_TOKENS.values()).isdisjoint(ids.tolist())
    assert tokenizer.decode(ids) == text


def test_control_and_padding_ids_have_no_text(tokenizer: Tokenizer) -> None:
    yes = tokenizer.encode("Yes").tolist()
    control = tokenizer.control
    assert tokenizer.decode([control.im_start, *yes, 152_000, control.im_end]) == "Yes"


def test_a_stream_gives_whole_characters(tokenizer: Tokenizer) -> None:
    text = "🚗é事"
    stream = tokenizer.stream()
    pieces = [stream.push(int(token)) for token in tokenizer.encode(text)]
    assert [piece for piece in pieces if piece] == list(text)
    assert len(pieces) == len(text.encode())
    assert stream.finish() == ""


def test_a_broken_character_is_shown_once_and_the_rest_goes_on(tokenizer: Tokenizer) -> None:
    car = tokenizer.encode("🚗").tolist()
    after = tokenizer.encode("ok").tolist()
    assert tokenizer.decode([*car[:2], *after]) == "\ufffdok"
    stream = tokenizer.stream()
    assert [stream.push(token) for token in car[:3]] == ["", "", ""]
    assert stream.finish() == "\ufffd"


def test_a_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be read"):
        Tokenizer.open(file)
    file.write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be read"):
        Tokenizer.open(file)


def test_a_control_token_elsewhere_is_refused(tokenizer_file: Path, tmp_path: Path) -> None:
    document = json.loads(tokenizer_file.read_text())
    document["added_tokens"] = [each for each in document["added_tokens"] if each["content"] != "<image>"]
    broken = tmp_path / "tokenizer.json"
    broken.write_text(json.dumps(document))
    with pytest.raises(BundleError, match="'<image>' must have id 151665, found None"):
        Tokenizer.open(broken)


def test_a_control_token_that_text_could_spell_is_refused(tokenizer_file: Path, tmp_path: Path) -> None:
    document = json.loads(tokenizer_file.read_text())
    for each in document["added_tokens"]:
        each["special"] = each["special"] and each["content"] != "<image>"
    broken = tmp_path / "tokenizer.json"
    broken.write_text(json.dumps(document))
    with pytest.raises(BundleError, match="'<image>' is not marked as special"):
        Tokenizer.open(broken)
