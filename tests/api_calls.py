"""Which attributes and calls a source file makes on objects of known kinds, read from its syntax."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple


class Use(NamedTuple):
    """One attribute, `Class.name` or `Enumeration.MEMBER`; with arguments where it is called."""

    path: str
    where: str
    called: bool
    positional: int = 0
    keywords: tuple[str, ...] = ()


def uses(source: Path, kinds: Mapping[str, str]) -> Iterator[Use]:
    """Uses in `source` of names in `kinds`: a variable or attribute -> the class it is of, "" for the module itself.

    The last name before the dot counts: `loaded.engine.num_layers` is one of what `engine` is.
    """
    tree = ast.parse(source.read_text())
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = [
        (node, path) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and (path := _path(node, kinds))
    ]
    # Of `module.Enumeration.MEMBER` only the whole counts.
    inner = {id(node.value) for node, path in found if path.startswith(f"{_path(node.value, kinds)}.")}
    for node, path in found:
        if id(node) in inner:
            continue
        call, where = calls.get(id(node)), f"{source.name}:{node.lineno}"
        if call is None:
            yield Use(path, where, called=False)
        else:
            keywords = tuple(keyword.arg or "**" for keyword in call.keywords)
            yield Use(path, where, True, len(call.args), keywords)


def _path(node: ast.AST, kinds: Mapping[str, str]) -> str | None:
    if not isinstance(node, ast.Attribute) or node.attr.startswith("__"):
        return None
    owner = node.value
    last = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    if last in kinds:
        return f"{kinds[last]}.{node.attr}".lstrip(".")
    before = _path(owner, kinds)
    is_class = before is not None and before.rpartition(".")[2][:1].isupper()
    return f"{before}.{node.attr}" if is_class else None
