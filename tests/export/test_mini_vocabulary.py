"""A vocabulary of its own: Qwen's way of splitting, every control token special, and prompts that come back as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers

from edge_sdk.errors import BundleError, CheckpointError, ConfigError
from edge_sdk.export.mini.vocabulary import train_vocabulary, write_vocabulary
from edge_sdk.export.tokenizer import tokenizer_json
from edge_sdk.reasoning import CONTROL_TOKENS, Prompt, PromptFrame, Tokenizer
from edge_sdk.tasks import TASKS


@pytest.fixture(scope="module")
def made() -> tokenizers.Tokenizer:
    return train_vocabulary([task.prompt for task in TASKS], 1200)


@pytest.fixture(scope="module")
def folder(made: tokenizers.Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    write_vocabulary(made, folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.open(folder / "tokenizer.json")


def test_control_tokens_are_behind_the_others(tokenizer: Tokenizer) -> None:
    control = tokenizer.control
    assert {control.im_start, control.im_end, control.image} < set(range(tokenizer.size - 6, tokenizer.size))
    assert tokenizer.size <= 1200


@pytest.mark.parametrize("text", ["Time 12.3s:", "ego-car hits a car", "", "é 🚗\n\n", "<image> <|im_end|>"])
def test_any_text_survives(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).tolist()
    assert tokenizer.decode(ids) == text
    assert {tokenizer.control.im_end, tokenizer.control.image}.isdisjoint(ids)


def test_text_is_split_as_qwen_splits_it(made: tokenizers.Tokenizer, shared_data: Path) -> None:
    qwen = tokenizers.Tokenizer.from_str(tokenizer_json(shared_data / "qwen2.5-tokenizer"))
    for text in ("Time 12.3s:<,Time 0.4s:", "I'LL can't  \n x", *(task.prompt for task in TASKS)):
        assert made.pre_tokenizer.pre_tokenize_str(text) == qwen.pre_tokenizer.pre_tokenize_str(text)


def test_a_prompt_is_made_with_its_own_ids(made: tokenizers.Tokenizer, tokenizer: Tokenizer) -> None:
    prompt, frames = Prompt(tokenizer), [PromptFrame(time_s=0.25 * n, tokens=15) for n in range(3)]
    text = prompt.text(frames, TASKS[0].prompt)
    made.encode_special_tokens = False
    assert prompt.whole(frames, TASKS[0].prompt).tolist() == made.encode(text, add_special_tokens=False).ids


def test_the_checkpoints_own_file_is_taken_over(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(folder), encoding="utf-8")
    again = Tokenizer.open(tmp_path / "tokenizer.json")
    assert again.control == tokenizer.control
    assert again.encode(TASKS[3].prompt).tolist() == tokenizer.encode(TASKS[3].prompt).tolist()


def test_a_manifest_of_another_vocabulary_is_refused(tokenizer: Tokenizer) -> None:
    control = tokenizer.control
    tokenizer.agree(control.image, (7, control.im_end))
    with pytest.raises(BundleError, match=rf"'<image>' has id {control.image}, but the model was exported with 151665"):
        tokenizer.agree(CONTROL_TOKENS["<image>"], (control.im_end,))
    with pytest.raises(BundleError, match=r"'<\|im_end\|>' has id \d+, but the model was exported with 5, 6"):
        tokenizer.agree(control.image, (5, 6))


@pytest.mark.parametrize("missing", ["<image>", "<|im_start|>", "<|im_end|>"])
def test_a_vocabulary_without_a_control_token(folder: Path, tmp_path: Path, missing: str) -> None:
    document = json.loads((folder / "tokenizer.json").read_text())
    document["added_tokens"] = [each for each in document["added_tokens"] if each["content"] != missing]
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match=r"must be in the vocabulary, found None"):
        Tokenizer.open(tmp_path / "tokenizer.json")
    with pytest.raises(CheckpointError, match=r"control tokens of its own, missing: <"):
        tokenizer_json(tmp_path)


def test_a_control_token_that_text_could_spell(folder: Path, tmp_path: Path) -> None:
    document = json.loads((folder / "tokenizer.json").read_text())
    for each in document["added_tokens"]:
        each["special"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match="not marked as special"):
        Tokenizer.open(tmp_path / "tokenizer.json")


def test_a_vocabulary_too_small_for_bytes() -> None:
    with pytest.raises(ConfigError, match="more than 262 tokens, found 200"):
        train_vocabulary(["x"], 200)
