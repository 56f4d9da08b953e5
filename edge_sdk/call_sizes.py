"""How much a decoder gets in one call: reasoners use these sizes, engines are tuned for them, and plans count them."""

PREFILL_TOKENS = 128
"""Tokens of one call of a prefill. With so many a decoder of 4 bits is bound by arithmetic on CPUs and on every Jetson:
more would answer no sooner, let the student's frames wait longer, and pad more behind the last question."""
DECODE_ROWS = 8
"""Answers that are decoded together, a row each; a call with no more tokens than this is a step of decoding."""
