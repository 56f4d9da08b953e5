"""A tokenizer that needs no vocabulary of anyone's."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_tokenizer import write_checkpoint_files

from edge_sdk.export.tokenizer import tokenizer_json
from edge_sdk.reasoning import Tokenizer


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `tokenizer.json` of the toy vocabulary."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_checkpoint_files(folder)
    file = folder / "made" / "tokenizer.json"
    file.parent.mkdir()
    file.write_text(tokenizer_json(folder), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def tokenizer(tokenizer_file: Path) -> Tokenizer:
    """The toy tokenizer, opened."""
    return Tokenizer.open(tokenizer_file)
