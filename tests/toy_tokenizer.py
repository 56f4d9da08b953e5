"""A byte-level vocabulary with the model's control tokens, for tests that have no real one at hand."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

BYTES = 256
ADDED_FROM = 151_643
WORDS = ("user", "Time", "video", "ass", "ist", "ant", "assistant", "ĠWhat")
IMAGE, END, START = "<image>", "<|im_end|>", "<|im_start|>"


def write_checkpoint_files(folder: Path) -> None:
    """Vocabulary, merges and added tokens in Qwen's layout: every byte, a few words, and unused filler up to the
    control tokens. VideoLLaMA3's own three tokens are not among them, as in most published copies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = pieces()
    vocabulary |= {f"filler{i}": i for i in range(len(vocabulary), ADDED_FROM)}
    added = ["<|endoftext|>", START, END, *(f"<|unused_{i}|>" for i in range(19))]
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    text = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges)
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    ids = {content: ADDED_FROM + i for i, content in enumerate(added)}
    (folder / "added_tokens.json").write_text(json.dumps(ids), encoding="utf-8")


def small_tokenizer() -> Tokenizer:
    """As a small model has it: no filler, and the control tokens right behind the pieces."""
    vocabulary, merges = pieces()
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(content, special=True) for content in (START, END, IMAGE)])
    return made


def pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Every byte and the few words, by id, and the merges that make the words."""
    glyphs = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = [chr(b) for b in glyphs] + [chr(256 + i) for i in range(BYTES - len(glyphs))]
    merges = list(dict.fromkeys(merge for word in WORDS for merge in chain_of(word)))
    return {piece: i for i, piece in enumerate([*alphabet, *dict.fromkeys(a + b for a, b in merges)])}, merges


def chain_of(word: str) -> list[tuple[str, str]]:
    """Merges that build `word` from the left."""
    return [(word[:i], word[i]) for i in range(1, len(word))]
