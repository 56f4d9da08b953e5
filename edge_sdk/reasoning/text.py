"""Convert text to token ids and back with the tokenizer of a bundle.

Control tokens steer the model, so only this SDK may place them: text that happens to spell one is encoded as plain
text. Their ids come from the tokenizer, because a small model may have its own vocabulary. A tokenizer with Qwen2.5's
vocabulary must have them at the ids that VideoLLaMA3 was trained with, because a wrong id gives fluent nonsense; this
is checked on opening.

Tokens are pieces of bytes rather than text, so one character may span several tokens. A stream of answers therefore
holds bytes back until they form a whole character.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import tokenizers
from numpy.typing import NDArray

from edge_sdk.errors import BundleError
from edge_sdk.types import Value

Ids = NDArray[np.int64]

IM_START, IM_END, IMAGE = "<|im_start|>", "<|im_end|>", "<image>"
NEEDED = (IM_START, IM_END, IMAGE)
"""Tokens that every vocabulary must have: prompts consist of these and text."""

BASE_VOCABULARY = 151_643
CONTROL_TOKENS: Mapping[str, int] = MappingProxyType(
    {
        "<|endoftext|>": BASE_VOCABULARY,
        IM_START: 151644,
        IM_END: 151645,
        IMAGE: 151665,
        "<|stream_start|>": 151666,
        "<|stream_end|>": 151667,
    }
)
"""Control tokens of VideoLLaMA3 and their ids after Qwen2.5's `BASE_VOCABULARY`: Qwen's, and three of its own."""


class ControlTokens(Value, frozen=True, kw_only=True):
    """The ids of a prompt's control tokens in one tokenizer."""

    im_start: int
    im_end: int
    image: int


class Tokenizer:
    """A byte-level BPE tokenizer. `control` are the ids of its control tokens."""

    def __init__(self, backend: tokenizers.Tokenizer, source: str = "the tokenizer") -> None:
        """Wrap `backend`, whose settings are changed; `source` names it in errors. Raises `BundleError`."""
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True
        self._backend, self._source = backend, source
        added = backend.get_added_tokens_decoder()
        self._added = {token: b"" if each.special else each.content.encode() for token, each in added.items()}
        found = self._control_tokens()
        self.control = ControlTokens(im_start=found[IM_START], im_end=found[IM_END], image=found[IMAGE])

    @classmethod
    def open(cls, path: Path) -> Tokenizer:
        """Open a `tokenizer.json`. Raises `BundleError` if it cannot be read or has wrong ids for control tokens."""
        try:
            backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the tokenizers package raises nothing more precise
            raise BundleError(f"{path} cannot be read as a tokenizer: {error}; export the bundle again") from error
        return cls(backend, str(path))

    def encode(self, text: str) -> Ids:
        """Return the ids of plain text, int64 `[n]`; nothing is added before or after it."""
        return np.array(self._backend.encode(text, add_special_tokens=False).ids, np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids` without control tokens; bytes that form no character become U+FFFD."""
        stream = self.stream()
        return "".join([*(stream.push(int(token)) for token in ids), stream.finish()])

    def stream(self) -> TextStream:
        """Return a decoder for ids that come one by one."""
        return TextStream(self)

    @property
    def size(self) -> int:
        """One more than the highest id."""
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    def agree(self, image: int, end: Collection[int]) -> None:
        """Raise `BundleError` unless `image` is this tokenizer's image token and `end` contains `<|im_end|>`."""
        for content, found, stated in ((IMAGE, self.control.image, {image}), (IM_END, self.control.im_end, {*end})):
            if found not in stated:
                raise BundleError(
                    f"{self._source}: {content!r} has id {found}, but the model was exported with "
                    f"{', '.join(map(str, sorted(stated))) or 'none'}; export the bundle again from one checkpoint"
                )

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of one token; empty for a control token and for an id that only pads the vocabulary."""
        if token in self._added:
            return self._added[token]
        piece = self._backend.id_to_token(token) or ""
        return b"".join(_BYTES_OF.get(character, character.encode()) for character in piece)

    def _control_tokens(self) -> dict[str, int]:
        """Return control token ids by content: all of `CONTROL_TOKENS` for Qwen2.5's vocabulary, else those present."""
        learnt = self._backend.get_vocab_size(with_added_tokens=False) >= BASE_VOCABULARY
        ids: dict[str, int] = {}
        for content, expected in CONTROL_TOKENS.items():
            found = self._backend.token_to_id(content)
            if (learnt and found != expected) or (found is None and content in NEEDED):
                wanted = f"have id {expected}" if learnt else "be in the vocabulary"
                raise BundleError(
                    f"{self._source}: {content!r} must {wanted}, found {found}; export with the checkpoint's own files"
                )
            if found is not None:
                self._check_special(content, found)
                ids[content] = found
        return ids

    def _check_special(self, content: str, token: int) -> None:
        if token in self.encode(content):
            raise BundleError(
                f"{self._source}: {content!r} is not marked as special, so that text could steer the model; "
                "export the bundle again"
            )


class TextStream:
    """Turns ids that come one by one into text that never ends inside a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """Return the text that `token` completes; often a word, sometimes nothing."""
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def finish(self) -> str:
        """Return the rest at the end: U+FFFD for an incomplete character, else nothing."""
        return self._decoder.decode(b"", final=True)


def _byte_alphabet() -> dict[str, bytes]:
    """Return the byte for each character of a byte-level vocabulary; bytes without a glyph map to U+0100 on (GPT-2)."""
    glyphs = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in glyphs]
    characters = {chr(byte): byte for byte in glyphs} | {chr(0x100 + n): byte for n, byte in enumerate(others)}
    return {character: bytes([byte]) for character, byte in characters.items()}


_BYTES_OF = _byte_alphabet()
