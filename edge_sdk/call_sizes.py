"""How much a decoder gets in one call: reasoners use these sizes, engines are tuned for them, and plans count them."""

PREFILL_TOKENS = 128
"""Tokens in one prefill call. At this size a 4-bit decoder is compute-bound on CPUs and on every Jetson. A larger call
would answer no sooner, delay the student's frames longer, and need more padding after the last question."""
DECODE_ROWS = 8
"""Answers decoded together, one row each; a call with at most this many tokens is a decode step."""
