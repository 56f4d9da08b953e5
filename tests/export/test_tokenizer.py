"""`tokenizer.json` made from a checkpoint's files: the same ids as Hugging Face's, from whichever files there are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from toy_tokenizer import write_checkpoint_files

from edge_sdk.errors import CheckpointError
from edge_sdk.export.tokenizer import tokenizer_json
from edge_sdk.reasoning import CONTROL_TOKENS, Tokenizer

NEW_TOKENS = ["<image>", "<|stream_start|>", "<|stream_end|>"]
ODD = [
    "",
    "  two  spaces\t\n\n",
    "I'LL can't",
    "1234567",
    "e\u0301",
    "事故。🚗💥",
    "a\r\nb",
    "ﬁ № ①",
    "<tool_call>x<|fim_pad|>",
]


@pytest.fixture(scope="module")
def qwen(shared_data: Path) -> Path:
    return shared_data / "qwen2.5-tokenizer"


@pytest.fixture(scope="module")
def made(qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("qwen") / "tokenizer.json"
    file.write_text(tokenizer_json(qwen), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def tokenizer(made: Path) -> Tokenizer:
    return Tokenizer.open(made)


@pytest.fixture(scope="module")
def hugging_face(qwen: Path) -> Any:
    loaded = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(qwen)
    loaded.add_tokens(NEW_TOKENS, special_tokens=True)
    return loaded


@pytest.fixture(scope="module")
def texts(shared_data: Path) -> list[str]:
    """Every question and answer of the validation files, each once."""
    files = sorted((shared_data / "crashchat-val").glob("*.json"))
    rows = [row for file in files for row in json.loads(file.read_text())]
    return sorted({turn["value"] for row in rows for turn in row["conversations"]})


def test_ids_are_hugging_faces_on_every_prompt_and_answer(
    tokenizer: Tokenizer, hugging_face: Any, texts: list[str]
) -> None:
    assert len(texts) > 1000
    for text in texts:
        ids = tokenizer.encode(text).tolist()
        assert ids == hugging_face(text, add_special_tokens=False).input_ids, text
        assert tokenizer.decode(ids) == hugging_face.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("text", ODD)
def test_ids_are_hugging_faces_on_odd_text(tokenizer: Tokenizer, hugging_face: Any, text: str) -> None:
    ids = tokenizer.encode(text).tolist()
    assert ids == hugging_face(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == hugging_face.decode(ids)


def test_control_tokens_have_hugging_faces_ids(hugging_face: Any) -> None:
    ids = {content: hugging_face.convert_tokens_to_ids(content) for content in CONTROL_TOKENS}
    assert ids == dict(CONTROL_TOKENS)
    assert len(hugging_face) == max(CONTROL_TOKENS.values()) + 1


def test_broken_bytes_are_shown_as_hugging_face_shows_them(tokenizer: Tokenizer, hugging_face: Any) -> None:
    ids = tokenizer.encode("🚗 ok 事故").tolist()
    for cut in ([0], [-1], [0, 1], [-2, -1]):
        left = [token for i, token in enumerate(ids) if i not in [each % len(ids) for each in cut]]
        assert tokenizer.decode(left) == hugging_face.decode(left)


def test_the_vocabulary_by_merging_pairs_by_hand(qwen: Path, tokenizer: Tokenizer, texts: list[str]) -> None:
    """Independent of the tokenizers package: the byte-pair rule itself, on words split at spaces."""
    vocabulary = json.loads((qwen / "vocab.json").read_text())
    lines = (qwen / "merges.txt").read_text().splitlines()
    ranks = {tuple(line.split(" ")): rank for rank, line in enumerate(lines)}
    words = sorted({word for text in texts for word in text.split() if word.isalpha() and word.isascii()})
    assert len(words) > 100
    for word in words:
        by_hand = [vocabulary[piece] for piece in merged(f"Ġ{word}", ranks)]
        assert tokenizer.encode(f" {word}").tolist() == by_hand


def merged(word: str, ranks: dict[tuple[str, ...], int]) -> list[str]:
    pieces = list(word)
    while True:
        known = [(ranks[pair], i) for i, pair in enumerate(pairwise(pieces)) if pair in ranks]
        if not known:
            return pieces
        _, i = min(known)
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]


def test_a_finished_tokenizer_is_taken_over(made: Path, hugging_face: Any, tmp_path: Path) -> None:
    assert tokenizer_json(made.parent) == made.read_text(encoding="utf-8")
    hugging_face.save_pretrained(tmp_path)
    saved = tmp_path / "saved.json"
    saved.write_text(tokenizer_json(tmp_path), encoding="utf-8")
    text = "Time 0.1s: ego-car hits a car"
    assert Tokenizer.open(saved).encode(text).tolist() == hugging_face(text).input_ids


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    write_checkpoint_files(folder)
    return folder


@pytest.fixture
def checkpoint(toy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy, tmp_path / "checkpoint"))


def edit_json(file: Path, edit: Callable[[Any], None]) -> None:
    document = json.loads(file.read_text())
    edit(document)
    file.write_text(json.dumps(document))


def test_line_ends_of_the_merges_do_not_matter(checkpoint: Path) -> None:
    before = tokenizer_json(checkpoint)
    merges = checkpoint / "merges.txt"
    merges.write_bytes(merges.read_bytes().replace(b"\n", b"\r\n"))
    assert tokenizer_json(checkpoint) == before


def test_settings_alone_name_the_added_tokens(checkpoint: Path) -> None:
    before = tokenizer_json(checkpoint)
    listed = json.loads((checkpoint / "added_tokens.json").read_text())
    (checkpoint / "added_tokens.json").unlink()
    entries = {str(i): {"content": content, "special": True, "__type": "AddedToken"} for content, i in listed.items()}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": entries}))
    assert tokenizer_json(checkpoint) == before


def test_an_image_token_that_is_not_special_becomes_so(checkpoint: Path) -> None:
    edit_json(checkpoint / "added_tokens.json", lambda tokens: tokens.update({"<image>": 151665}))
    entry = {"151665": {"content": "<image>", "special": False}}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": entry}))
    file = checkpoint / "made.json"
    file.write_text(tokenizer_json(checkpoint))
    assert CONTROL_TOKENS["<image>"] not in Tokenizer.open(file).encode("<image>")


def broken_checkpoints() -> Iterator[tuple[str, Callable[[Path], Any], str]]:
    added, settings = "added_tokens.json", "tokenizer_config.json"
    yield "no vocabulary", lambda at: (at / "vocab.json").unlink(), r"vocab\.json: expected a JSON file"
    yield "no merges", lambda at: (at / "merges.txt").unlink(), r"merges\.txt cannot be read"
    yield "not JSON", lambda at: (at / "vocab.json").write_text("{"), r"vocab\.json: expected JSON"
    yield "a list", lambda at: (at / "vocab.json").write_text("[]"), "expected a JSON object, found list"
    yield "three in a line", lambda at: (at / "merges.txt").write_text("a b c"), "two tokens a line, found 'a b c'"
    yield "unknown merge", lambda at: (at / "merges.txt").write_text("a 事"), "do not fit"
    yield "ids that are text", lambda at: (at / added).write_text('{"x": "y"}'), "expected ids by token"
    yield "odd settings", lambda at: (at / settings).write_text('{"added_tokens_decoder": {"1": 2}}'), "added_tokens_d"
    yield (
        "a token too many",
        lambda at: edit_json(at / added, lambda tokens: tokens.update({"<|mine|>": 151665})),
        r"'<image>' must have id 151665, its files give it 151666",
    )
    yield (
        "a token too few",
        lambda at: edit_json(at / added, lambda tokens: tokens.pop("<|unused_18|>")),
        r"'<image>' must have id 151665, its files give it 151664",
    )
    yield (
        "an id off by one",
        lambda at: edit_json(at / added, lambda tokens: tokens.update({"<|im_end|>": 151646})),
        r"must have id 151646, its files give it 151645",
    )
    yield "no tokenizer", lambda at: (at / "tokenizer.json").write_text("{}"), r"tokenizer\.json cannot be read"


@pytest.mark.parametrize(("breaking", "message"), [pytest.param(*b[1:], id=b[0]) for b in broken_checkpoints()])
def test_what_does_not_fit_is_named(breaking: Callable[[Path], Any], message: str, checkpoint: Path) -> None:
    breaking(checkpoint)
    with pytest.raises(CheckpointError, match=message):
        tokenizer_json(checkpoint)


def test_the_folder_is_left_as_it_was(toy: Path, checkpoint: Path) -> None:
    tokenizer_json(checkpoint)
    assert {p.name: p.read_bytes() for p in checkpoint.iterdir()} == {p.name: p.read_bytes() for p in toy.iterdir()}
