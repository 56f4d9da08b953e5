"""The states of a live source, as values that programs and logs can read."""

from __future__ import annotations

from typing import Literal

from edge_sdk.types import Value

# connecting: a pipeline is being built, no picture yet. live: pictures come. stalled: pictures have stopped or stay the
# same; the pipeline is being taken down. backoff: waiting before the next attempt. ended: closed by its owner, or the
# host program has ended its feed.
SourceState = Literal["connecting", "live", "stalled", "backoff", "ended"]


class SourceChange(Value, frozen=True, kw_only=True):
    """A source has entered `state`.

    `source` is its URI without credentials; `at_s` is on the clock of `time.monotonic()`; `reason` is one sentence,
    empty if the state says enough. `attempt` counts the attempts since the source was last live for 10 s, from 1; in
    `stalled` and `backoff` it is the next attempt. `retry_in_s` is the wait of a back-off.
    """

    schema: int = 1
    source: str
    state: SourceState
    at_s: float
    reason: str = ""
    attempt: int = 1
    retry_in_s: float | None = None
