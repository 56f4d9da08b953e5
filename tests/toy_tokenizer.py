"""A byte-level tokenizer with the control tokens at their true ids, for tests that have no real vocabulary at hand."""

from __future__ import annotations

import json
from pathlib import Path

BYTES = 256
ADDED_FROM = 151_643
WORDS = ("user", "Time", "video", "ass", "ist", "ant", "assistant", "ĠWhat")


def write_checkpoint_files(folder: Path) -> None:
    """Vocabulary, merges and added tokens in Qwen's layout: every byte, a few words, and unused filler up to the
    control tokens. VideoLLaMA3's own three tokens are not among them, as in most published copies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    glyphs = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = [chr(b) for b in glyphs] + [chr(256 + i) for i in range(BYTES - len(glyphs))]
    merges = list(dict.fromkeys(merge for word in WORDS for merge in chain_of(word)))
    vocabulary = {piece: i for i, piece in enumerate([*alphabet, *dict.fromkeys(a + b for a, b in merges)])}
    vocabulary |= {f"filler{i}": i for i in range(len(vocabulary), ADDED_FROM)}
    added = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|unused_{i}|>" for i in range(19))]
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    text = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges)
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    ids = {content: ADDED_FROM + i for i, content in enumerate(added)}
    (folder / "added_tokens.json").write_text(json.dumps(ids), encoding="utf-8")


def chain_of(word: str) -> list[tuple[str, str]]:
    """Merges that build `word` from the left."""
    return [(word[:i], word[i]) for i in range(1, len(word))]
