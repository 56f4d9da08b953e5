"""Read JSON settings that other tools have written, key by key, with one clear error for each wrong value.

In these files a missing key and a null key mean the same: the reader uses its default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from edge_sdk.errors import CheckpointError


def read_json(file: Path) -> dict[str, object]:
    """The object in a JSON file. Raises `CheckpointError` when it is absent, not JSON, or not an object."""
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"{file}: expected a JSON file, but it cannot be read ({error.strerror}); copy the whole folder"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{file}: expected JSON, but it is not ({error}); copy or download it again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: expected a JSON object, found {type(found).__name__}; copy it again")
    return found


class Section:
    """One object of a JSON file; `key` is the path of keys that leads to it."""

    def __init__(self, file: Path, values: Mapping[str, object], key: str = "") -> None:
        self.file = file
        self._values, self._key = values, key

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self._values.get(key) is not None

    def get(self, key: str) -> object:
        """The value as it stands, None where it is absent."""
        return self._values.get(key)

    def all_keys(self) -> list[str]:
        """All keys, sorted."""
        return sorted(self._values)

    def section(self, key: str) -> Section:
        """The object under `key`, empty where it is absent."""
        found = self._values.get(key)
        if not isinstance(found, dict | None):
            raise self.wrong(f"{key} must be an object", found)
        return Section(self.file, found or {}, f"{self._key}{key}.")

    def integer(self, key: str, *, default: int | None = None, smallest: int = 1) -> int:
        """A whole number of at least `smallest`."""
        found = self._values.get(key)
        found = default if found is None else found
        if not isinstance(found, int) or isinstance(found, bool) or found < smallest:
            raise self.wrong(f"{key} must be a whole number of at least {smallest}", found)
        return found

    def integers(self, key: str) -> tuple[int, ...]:
        """A whole number or a list of them, as a tuple; empty where it is absent."""
        found = self._values.get(key)
        several = found if isinstance(found, list) else [] if found is None else [found]
        if any(not isinstance(item, int) or isinstance(item, bool) or item < 0 for item in several):
            raise self.wrong(f"{key} must be an id or a list of ids", found)
        return tuple(several)

    def number(self, key: str, *, default: float | None = None) -> float:
        """A number above zero."""
        found = self._values.get(key)
        found = default if found is None else found
        if not isinstance(found, int | float) or isinstance(found, bool) or not found > 0:
            raise self.wrong(f"{key} must be a number above zero", found)
        return float(found)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        found = self._values.get(key)
        found = default if found is None else found
        if not isinstance(found, bool):
            raise self.wrong(f"{key} must be true or false", found)
        return found

    def text(self, key: str, default: str) -> str:
        """A string."""
        found = self._values.get(key)
        found = default if found is None else found
        if not isinstance(found, str):
            raise self.wrong(f"{key} must be a string", found)
        return found

    def only(self, key: str, *allowed: object, default: object) -> None:
        """Refuse every value except those in `allowed`, which this toolchain reproduces."""
        found = self._values.get(key)
        found = default if found is None else found
        if found not in allowed:
            raise self.wrong(f"{key} must be {' or '.join(map(json.dumps, allowed))}", found, unsupported=True)

    def all_are(self, key: str, allowed: str) -> None:
        """Refuse a list with an entry other than `allowed`; an absent list passes."""
        found = self._values.get(key)
        if found is not None and (not isinstance(found, list) or any(item != allowed for item in found)):
            raise self.wrong(f"every entry of {key} must be {json.dumps(allowed)}", found, unsupported=True)

    def wrong(self, expected: str, found: object, *, unsupported: bool = False) -> CheckpointError:
        """The error for one key, to be raised by the caller."""
        where = f" (in {self._key.rstrip('.')})" if self._key else ""
        todo = "this toolchain supports no other value" if unsupported else "take the file from the model's own folder"
        return CheckpointError(f"{self.file}{where}: {expected}, found {json.dumps(found, default=str)}; {todo}")
