"""A process that is forked while a unit is open ends as any does, and takes nothing from the unit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from demo_pictures import CLIP

from edge_sdk.bundle import Bundle

FORKS = """
import os, sys, threading, time
import numpy as np
import edge_sdk
from edge_sdk.capture import Feed
from edge_sdk.explaining import ReasonerSettings, Reply

kind, end, clip, folder = sys.argv[1:]
asks = ReasonerSettings(priority=0) if kind == "reasoner" else None
feed = Feed("rgb", width=64, height=48, rate_hz=30)
unit = edge_sdk.open(feed if kind == "feed" else clip, folder or None, threads=2, reasoning=asks)

def push():
    for number in range(10_000):
        feed.push(np.full((48, 64, 3), number % 255, np.uint8))
        time.sleep(1 / 30)

if kind == "feed":
    threading.Thread(target=push, daemon=True).start()
steps = unit.steps()
next(steps)
if asks:
    event = next(event for step in steps for event in step.events if event.state == "closed")
    said = unit.explain(event, ["prevention", "recognition"])
    next(said)
pid = os.fork()
if pid == 0:
    if end == "closes":
        unit.close()
    sys.exit(7)
until_s = time.monotonic() + 20
while (left := os.waitpid(pid, os.WNOHANG))[0] == 0 and time.monotonic() < until_s:
    time.sleep(0.05)
if left[0] == 0:
    os.kill(pid, 9)
    sys.exit("the forked process did not end")
print(os.waitstatus_to_exitcode(left[1]))
if asks:
    print(*sorted({item.task for item in said if isinstance(item, Reply)}))
else:
    print(sum(1 for _ in zip(steps, range(5))))
unit.close()
"""


@pytest.mark.parametrize("end", ["leaves", "closes"])
@pytest.mark.parametrize(("kind", "goes_on"), [("file", "5"), ("feed", "5"), ("reasoner", "prevention recognition")])
def test_a_forked_process_ends_and_its_parent_goes_on(kind: str, goes_on: str, end: str, asking: Bundle) -> None:
    # What a user has not set: the SDK does it, since ONNX Runtime's thread for it is waited for at the end of a fork.
    plain = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    folder = str(asking.folder) if kind == "reasoner" else ""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, kind, end, str(CLIP), folder],
        capture_output=True,
        text=True,
        timeout=120,
        env=plain,
    )
    assert done.stdout == f"7\n{goes_on}\n", done.stderr
