"""`tokenizer.json` from whatever tokenizer files a checkpoint has, with every added token at its id.

A checkpoint has either a finished `tokenizer.json` or Qwen's vocabulary and merges with a list of added tokens.
VideoLLaMA3's own three tokens follow those of Qwen2.5; published copies often lack them, because the model's code adds
them on loading. A model with another vocabulary has its control tokens in its own files. Ids are never chosen here: an
id that cannot be reached is an error, because the rows of the embedding table are fixed.

Pre-tokenisation and normalisation: Qwen2.5's `tokenizer.json` (NFC, one regular expression, bytes as glyphs).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from edge_sdk.errors import CheckpointError
from edge_sdk.export.config_file import read_json
from edge_sdk.reasoning.text import BASE_VOCABULARY, CONTROL_TOKENS, NEEDED

FINISHED, VOCABULARY, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
ADDED, SETTINGS = "added_tokens.json", "tokenizer_config.json"
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class _StatedToken(msgspec.Struct, frozen=True):
    """One entry of a settings file's `added_tokens_decoder`; keys that do not concern encoding are ignored."""

    content: str
    lstrip: bool = False
    normalized: bool = False
    rstrip: bool = False
    single_word: bool = False
    special: bool = True


def tokenizer_json(checkpoint: Path) -> str:
    """The text of `tokenizer.json` for the checkpoint in the folder `checkpoint`.

    Raises `CheckpointError` naming the file that is missing or cannot be read, or the token that has a wrong id.
    """
    made = _finished(checkpoint) if (checkpoint / FINISHED).is_file() else _assembled(checkpoint)
    made.no_padding()
    made.no_truncation()
    _add(checkpoint, made, _stated_tokens(checkpoint))
    _add(checkpoint, made, {token: _control(content) for content, token in _control_ids(checkpoint, made).items()})
    return made.to_str()


def _control_ids(checkpoint: Path, made: tokenizers.Tokenizer) -> dict[str, int]:
    """Ids of the control tokens: the trained ids with Qwen2.5's vocabulary, else those that the files state."""
    if made.get_vocab_size(with_added_tokens=False) >= BASE_VOCABULARY:
        return dict(CONTROL_TOKENS)
    ids = {content: made.token_to_id(content) for content in CONTROL_TOKENS}
    if missing := [content for content in NEEDED if ids[content] is None]:
        raise CheckpointError(
            f"{checkpoint}: expected Qwen2.5's {BASE_VOCABULARY} tokens, or a vocabulary with control tokens of its "
            f"own, missing: {', '.join(missing)}; copy all of the tokenizer's files"
        )
    return {content: token for content, token in ids.items() if token is not None}


def _finished(checkpoint: Path) -> tokenizers.Tokenizer:
    source = checkpoint / FINISHED
    try:
        return tokenizers.Tokenizer.from_str(source.read_text(encoding="utf-8"))
    except Exception as error:  # the tokenizers package raises nothing more precise
        raise CheckpointError(f"{source} cannot be read as a tokenizer: {error}; copy it again") from error


def _assembled(checkpoint: Path) -> tokenizers.Tokenizer:
    vocabulary = _ids(checkpoint / VOCABULARY)
    merges = _merges(checkpoint / MERGES)
    try:
        made = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    except Exception as error:  # the tokenizers package raises nothing more precise
        raise CheckpointError(
            f"{checkpoint}: {VOCABULARY} and {MERGES} do not fit: {error}; copy both again"
        ) from error
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = words_and_bytes()
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    return made


def words_and_bytes() -> pre_tokenizers.PreTokenizer:
    """Qwen2.5's pre-tokenizer: split text into words, single digits and marks, then into bytes shown as glyphs."""
    split = pre_tokenizers.Split(Regex(_WORDS), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _merges(source: Path) -> list[tuple[str, str]]:
    """Pairs of a merges file, best first; the file may have a version line and LF or CRLF line ends."""
    text = _text(source).replace("\r\n", "\n")
    lines = [line for line in text.split("\n") if line and not line.startswith("#version")]
    pairs = [tuple(line.split(" ")) for line in lines]
    for pair, line in zip(pairs, lines, strict=True):
        if len(pair) != 2:
            raise CheckpointError(f"{source}: expected two tokens a line, found {line!r}; copy it again")
    return [(pair[0], pair[1]) for pair in pairs]


def _stated_tokens(checkpoint: Path) -> dict[int, AddedToken]:
    """Added tokens from the checkpoint's lists, by id; the settings file overrides the list, having more details."""
    tokens: dict[int, AddedToken] = {}
    if (checkpoint / ADDED).is_file():
        tokens = {token: _control(content) for content, token in _ids(checkpoint / ADDED).items()}
    if (checkpoint / SETTINGS).is_file():
        tokens |= _settings_tokens(checkpoint / SETTINGS)
    return tokens


def _ids(source: Path) -> dict[str, int]:
    try:
        return msgspec.convert(read_json(source), dict[str, int])
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{source}: expected ids by token: {error}") from error


def _settings_tokens(source: Path) -> dict[int, AddedToken]:
    try:
        stated = msgspec.convert(
            read_json(source).get("added_tokens_decoder", {}), dict[int, _StatedToken], strict=False
        )
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{source}: added_tokens_decoder: {error}") from error
    return {token: AddedToken(**msgspec.structs.asdict(each)) for token, each in stated.items()}


def _control(content: str) -> AddedToken:
    return AddedToken(content, special=True, normalized=False)


def _add(checkpoint: Path, made: tokenizers.Tokenizer, tokens: Mapping[int, AddedToken]) -> None:
    for token, added in sorted(tokens.items()):
        made.add_tokens([added])
        found = made.token_to_id(added.content)
        if found != token:
            raise CheckpointError(
                f"{checkpoint}: the token {added.content!r} must have id {token}, its files give it {found}; "
                "use the tokenizer files that belong to these weights"
            )


def _text(source: Path) -> str:
    try:
        return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{source} cannot be read: {error}; copy the checkpoint's whole folder") from error
