"""A reasoner whose GPU has failed for good: what is left of the process is of no use."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from changed_worker import started_with

from edge_sdk.bundle import Bundle
from edge_sdk.errors import DeviceLostError
from edge_sdk.explaining import ReasonerProcess, ReasonerSettings, Reply, child

PICTURE = np.zeros((60, 90, 3), np.uint8)
LOST = """
import os
from edge_sdk.errors import DeviceLostError
from edge_sdk.explaining import answering
def lost(*given):
    raise DeviceLostError('CUDA: cudaStreamSynchronize gave cudaErrorLaunchFailure (719)')
answering.Answering.push = lost
"""


def test_a_process_whose_gpu_is_lost_ends_and_the_next_question_has_a_new_one(
    asking: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is asked of it after such a fault would fail."""
    with ReasonerProcess(asking, ReasonerSettings(priority=0)) as process:
        with monkeypatch.context() as changed:
            changed.setattr(child, "_start", started_with(LOST))
            with process.begin(wait_s=60) as request:
                first = process.pid
                with suppress(DeviceLostError):  # the fault may be told before the question is asked
                    request.push(PICTURE, 0.0)
                with pytest.raises(DeviceLostError, match="cudaErrorLaunchFailure"):
                    list(request.ask(["recognition"]))
        with process.begin(wait_s=60) as request:
            request.push(PICTURE, 0.0)
            assert [item.task for item in request.ask(["recognition"]) if isinstance(item, Reply)] == ["recognition"]
            assert process.pid != first
