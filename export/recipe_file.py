"""Find a recipe file, by the name of a packaged recipe or by its path, and read it as TOML."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from edge_sdk.errors import ConfigError

T = TypeVar("T")
RECIPES = Path(__file__).parent / "recipes"


class RecipeFile(NamedTuple):
    """A recipe's path and its text."""

    path: Path
    text: str

    def read(self, kind: type[T]) -> T:
        """The recipe as a `kind`. Raises `ConfigError` for text that is not TOML, or has a key that does not fit."""
        try:
            return msgspec.toml.decode(self.text, type=kind)
        except msgspec.ValidationError as error:
            raise ConfigError(f"recipe {self.path} is not usable: {error}") from error
        except msgspec.DecodeError as error:
            raise ConfigError(f"recipe {self.path} is not TOML: {error}; correct the recipe") from error
        except ConfigError as error:
            raise ConfigError(f"recipe {self.path}: {error}") from error


def find_recipe(name: str | Path, pattern: str, folder: Path = RECIPES) -> RecipeFile:
    """Find the recipe called `name` in `folder`, or the file at a path. Raises `ConfigError`.

    `pattern` matches the files of `folder` that are recipes of this kind; the error lists them.
    """
    path = folder / f"{name}.toml" if isinstance(name, str) and not name.endswith(".toml") else Path(name)
    try:
        return RecipeFile(path, path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in folder.glob(pattern)))
        raise ConfigError(f"no recipe at {path}; recipes that come with the package: {known}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"recipe {path} is not TOML: {error}; correct the recipe") from error
