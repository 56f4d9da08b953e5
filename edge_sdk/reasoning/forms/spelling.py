"""Which tokens may follow a state of the grammar, in any vocabulary: single digits, "10", ".5", " seconds".

Tokens made only of bytes in the grammar's alphabet are put into a prefix tree, once for each tokenizer. Walking it
together with the automaton visits only the legal continuations, some ten or twenty nodes, never the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import BundleError
from edge_sdk.reasoning.forms.grammar import PARTS, Grammar, State
from edge_sdk.reasoning.text import Tokenizer

ALPHABET = frozenset(b"0123456789." + b"".join(part for parts in PARTS.values() for part in parts if part))


class Node(NamedTuple):
    """A node of the tree: the tokens whose bytes end here, and the next nodes by byte."""

    tokens: list[int]
    after: dict[int, Node]


class Allowed(NamedTuple):
    """Tokens that may follow, int64 `[n]` ascending, and the state after each."""

    tokens: NDArray[np.int64]
    states: tuple[State, ...]


class Spelling:
    """The tokens of one tokenizer that can spell times."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Build the tree. Raises `BundleError` if a byte has no token of its own: an answer could then get stuck."""
        self._tokenizer = tokenizer
        self._root = Node([], {})
        for token in range(tokenizer.size):
            spelled = tokenizer.token_bytes(token)
            if spelled and ALPHABET.issuperset(spelled):
                self._add(token, spelled)
        missing = sorted(byte for byte in ALPHABET if not self._root.after.get(byte, Node([], {})).tokens)
        if missing:
            raise BundleError(
                f"the tokenizer has no token for {bytes(missing).decode()!r} and cannot spell a time; "
                "use a byte-level tokenizer with all bytes in its vocabulary"
            )

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Spelling:
        """Return the spelling of `tokenizer`, built once."""
        if tokenizer not in _KNOWN:
            _KNOWN[tokenizer] = cls(tokenizer)
        return _KNOWN[tokenizer]

    def allowed(self, grammar: Grammar, state: State) -> Allowed:
        """Return the tokens whose bytes keep a legal answer possible."""
        found: dict[int, State] = {}
        waiting = [(self._root, state)]
        while waiting:
            node, here = waiting.pop()
            for byte, after in grammar.after(here).items():
                below = node.after.get(byte)
                if below is not None:
                    found.update(dict.fromkeys(below.tokens, after))
                    waiting.append((below, after))
        tokens = sorted(found)
        return Allowed(np.array(tokens, np.int64), tuple(found[token] for token in tokens))

    def jump(self, grammar: Grammar, ids: tuple[int, ...], state: State) -> tuple[int, ...]:
        """Return the tokens of the forced text after `ids`, whose text ends at `state`, as far as they are certain.

        A token is certain if the tokenizer's own spelling of every possible whole answer has it next. No token is
        certain once it may extend beyond the forced text, or if `ids` differ from the tokenizer's own spelling.
        """
        forced, after = grammar.forced(state)
        if not forced:
            return ()
        said = b"".join(map(self._tokenizer.token_bytes, ids)) + forced
        certain: tuple[int, ...] | None = None
        for way in self._ways(grammar, forced, after):
            spelled = tuple(self._tokenizer.encode((said + way).decode()).tolist())
            if spelled[: len(ids)] != ids:
                return ()
            certain = _common(spelled[len(ids) :] if certain is None else certain, spelled[len(ids) :])
        return self._fitting(certain or (), len(forced))

    def walk(self, grammar: Grammar, state: State, tokens: Sequence[int]) -> State:
        """Return the state after legal `tokens`."""
        for byte in b"".join(map(self._tokenizer.token_bytes, tokens)):
            state = grammar.after(state)[byte]
        return state

    def _ways(self, grammar: Grammar, forced: bytes, state: State) -> Iterator[bytes]:
        """Yield continuations from `state` that reveal every spelling of `forced`.

        The lowest and the highest next byte suffice if no token spans the end of `forced`; else every byte is tried.
        """
        options = grammar.after(state)
        spanned = any(self._spans(forced[start:], options) for start in range(len(forced)))
        for byte in options if spanned else {min(options), max(options)}:
            for short in (True, False):
                yield bytes([byte]) + grammar.ending(options[byte], short=short)

    def _spans(self, end: bytes, options: Collection[int]) -> bool:
        node: Node | None = self._root
        for byte in end:
            node = None if node is None else node.after.get(byte)
        return node is not None and not node.after.keys().isdisjoint(options)

    def _fitting(self, tokens: tuple[int, ...], room: int) -> tuple[int, ...]:
        taken = []
        for token in tokens:
            room -= len(self._tokenizer.token_bytes(token))
            if room < 0:
                break
            taken.append(token)
        return tuple(taken)

    def _add(self, token: int, spelled: bytes) -> None:
        node = self._root
        for byte in spelled:
            node = node.after.setdefault(byte, Node([], {}))
        node.tokens.append(token)


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


_KNOWN: WeakKeyDictionary[Tokenizer, Spelling] = WeakKeyDictionary()
