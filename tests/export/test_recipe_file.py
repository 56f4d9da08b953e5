from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.export.recipe_file import find_recipe
from edge_sdk.types import Value


class Settings(Value, frozen=True, kw_only=True):
    steps: int


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "student-small.toml").write_text("steps = 3\n")
    (tmp_path / "other.toml").write_text("steps = 4\n")
    return tmp_path


def test_a_recipe_is_found_by_name_and_by_path(folder: Path) -> None:
    named = find_recipe("student-small", "student-*.toml", folder)
    assert named.read(Settings) == find_recipe(folder / "student-small.toml", "*.toml").read(Settings)
    assert msgspec.toml.decode(named.text) == {"steps": 3}


def test_an_unknown_name_tells_the_known_ones_of_its_kind(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"no recipe at .*student-large.toml; .* package: student-small$"):
        find_recipe("student-large", "student-*.toml", folder)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"steps = ", "is not TOML"), (b"steps = 'x'", "is not usable"), (b"\xff\xfe", "is not TOML")],
)
def test_what_cannot_be_read_names_the_file(folder: Path, content: bytes, told: str) -> None:
    path = folder / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"broken\.toml {told}"):
        find_recipe(path, "*.toml").read(Settings)
