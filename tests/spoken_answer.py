"""An answer with every field set, for tests that carry or show one."""

from __future__ import annotations

from edge_sdk.events import Answer

ANSWER = Answer(
    form="interval",
    value=(1.0, 2.5),
    text="1.0 - 2.5 seconds",
    probability=0.5,
    calibrated=False,
    lo=(0.5, 2.0),
    hi=(1.5, 3.0),
    tokens=7,
    grid="364x196",
    abstain=False,
    contradiction=None,
    model="m 1",
    prompt_sha256="0" * 64,
)
