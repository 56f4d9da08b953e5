"""Hide the secrets in texts that repeat what somebody typed: an address in them may be misspelt, or lack its scheme."""

from __future__ import annotations

import re

from edge_sdk.capture.uri import HIDDEN, redact

# Error messages show how an address is written; nothing in this one is secret.
_EXAMPLE = "rtsp://user:password@camera/stream"
_WORD = re.compile(r"([\"'(\[<]*)(\S+)")
# What holds a scheme is left to `redact`. The colon of a drive or before a mail address begins no password.
_NO_PASSWORD = re.compile(r"[A-Za-z]:[\\/]|mailto:|.*[A-Za-z0-9+.-]{2}:/|.*rtsps?:", re.IGNORECASE)


def redact_typed(text: str) -> str:
    """`text` without the secrets of the URLs in it, as `redact` does, nor those of words such as `user:password@host`.

    Nothing is left of such a word before its last `@`.
    """
    return _EXAMPLE.join(_WORD.sub(_word, redact(part)) for part in text.split(_EXAMPLE))


def _word(found: re.Match[str]) -> str:
    around, word = found.groups()
    before, at, host = word.rpartition("@")
    return f"{around}{HIDDEN}@{host}" if at and ":" in before and not _NO_PASSWORD.match(word) else found[0]
