"""A vocabulary for a small model: byte-level BPE that splits text as Qwen2.5 does, with special control tokens.

It is trained on what the model will read and say: the six questions, the answers of rendered scenes, the questions of
pre-training, and the time stamps of frames. Control tokens follow the learnt ones, as in Qwen2.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from edge_sdk.errors import ConfigError
from edge_sdk.export.tokenizer import FINISHED, words_and_bytes
from edge_sdk.files import write_bytes
from edge_sdk.reasoning.text import CONTROL_TOKENS, Tokenizer


def train_vocabulary(texts: Iterable[str], size: int) -> tokenizers.Tokenizer:
    """A tokenizer of at most `size` ids, trained on `texts`; control tokens are the last ids.

    Raises `ConfigError` for a size that leaves no room beside bytes and control tokens.
    """
    least = 256 + len(CONTROL_TOKENS)
    if size <= least:
        raise ConfigError(f"a vocabulary needs more than {least} tokens, found {size}")
    made = tokenizers.Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = words_and_bytes()
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    made.add_special_tokens([AddedToken(content, special=True, normalized=False) for content in CONTROL_TOKENS])
    return made


def write_vocabulary(made: tokenizers.Tokenizer, folder: Path) -> Tokenizer:
    """Write `tokenizer.json` into `folder`, and open it as a device does."""
    write_bytes(folder / FINISHED, made.to_str().encode())
    return Tokenizer.open(folder / FINISHED)
