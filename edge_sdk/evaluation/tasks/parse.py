"""Parse answers in two ways: as the reference reads them, and as they should be read.

The reference's rules (evaluation code of github.com/Liangkd/CrashChat at af80e34, classes `crash_ar`, `crash_tl` and
`crash_al`) read "I cannot tell" as a no, because it contains these letters, and drop what they cannot read. They are
reproduced exactly, so that numbers compare with published ones. For each there is also a repaired rule, which reads
whole words, any dash, and a full stop after a number. What that rule cannot read is None, which every score counts as
wrong.
"""

from __future__ import annotations

import re

_REFERENCE_RANGE = re.compile(r"([\d\.]+)\s*-\s*([\d\.]+)")
_REFERENCE_NUMBER = re.compile(r"[\d\.]+")
_NUMBER = r"(?:\d+(?:\.\d+)?|(?<![\d.])\.\d+)"
# Every dash from figure dash to horizontal bar, and the minus sign.
_DASH = r"(?:[-\u2012-\u2015\u2212]|to)"
_RANGE = re.compile(rf"({_NUMBER})\s*(?:s|sec|seconds?)?\s*{_DASH}\s*({_NUMBER})")


def reference_yes_no(answer: str) -> bool | None:
    """Read as the reference: the letters "yes" without "no" anywhere, or the other way round; None is dropped."""
    text = answer.strip().lower()
    yes, no = "yes" in text, "no" in text
    return None if yes == no else yes


def reference_interval(answer: str) -> tuple[float, float]:
    """Read as the reference, seconds: two numbers around a hyphen, else the first two, else (0, 0)."""
    found = _REFERENCE_RANGE.search(answer)
    parts = list(found.groups()) if found else _REFERENCE_NUMBER.findall(answer)[:2]
    try:
        first, second = (float(part) for part in parts)
    except ValueError:  # fewer than two, or one like "8.6."
        return 0.0, 0.0
    return first, second


def reference_time(answer: str) -> float | None:
    """Read as the reference, seconds: the first run of digits and dots; None, which is dropped, if not a number."""
    found = _REFERENCE_NUMBER.search(answer)
    try:
        return float(found.group()) if found else None
    except ValueError:
        return None


def yes_no(answer: str) -> bool | None:
    """Read the first word if it is yes or no, else whichever of the two words occurs alone; otherwise None."""
    words: list[str] = re.findall(r"[a-z]+", answer.lower())
    if words and words[0] in ("yes", "no"):
        return words[0] == "yes"
    yes, no = "yes" in words, "no" in words
    return None if yes == no else yes


def interval(answer: str) -> tuple[float, float] | None:
    """Read two numbers around a dash or "to", else the first two, seconds, smaller first; None for fewer."""
    found = _RANGE.search(answer.lower())
    parts = list(found.groups()) if found else re.findall(_NUMBER, answer)[:2]
    if len(parts) < 2:
        return None
    first, second = sorted(float(part) for part in parts)
    return first, second


def time(answer: str) -> float | None:
    """Read the first number, seconds; None if there is none."""
    found = re.search(_NUMBER, answer)
    return float(found.group()) if found else None
