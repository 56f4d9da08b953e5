"""What programs do to the reasoner although its types or pages do not mean it: one clear error each, and none hangs."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator

import numpy as np
import pytest
from demo_pictures import CLIP

from edge_sdk.bundle import Bundle
from edge_sdk.errors import ConfigError, RuntimeFailure, UnknownNameError
from edge_sdk.explaining import ReasonerProcess, ReasonerSettings, Reply, tasks_of
from edge_sdk.unit import Unit

PLAIN = ReasonerSettings(priority=0)
PICTURES = np.random.default_rng(7).integers(0, 255, (6, 60, 90, 3), dtype=np.uint8)

# The reasoner is used, killed or left by a program of its own, whose state no test should share.
PROGRAM = """
import os, signal, sys, time
import numpy as np
from edge_sdk.bundle import open_bundle
from edge_sdk.errors import ConfigError, RuntimeFailure, UnknownNameError
from edge_sdk.explaining import ReasonerProcess, ReasonerSettings, Reply

def asks(process):
    with process.begin() as request:
        request.push(np.zeros((60, 90, 3), np.uint8), 0.0)
        return [item for item in request.ask(["recognition"]) if isinstance(item, Reply)]

process = ReasonerProcess(open_bundle(sys.argv[1]), ReasonerSettings(priority=0))
"""
FORKED = """
if sys.argv[2] == "used":
    asks(process)
pid = os.fork()
if pid == 0:
    try:
        asks(process)
    except ConfigError as error:
        print(error, flush=True)
        os._exit(7)
    os._exit(8)
until_s = time.monotonic() + 20
while (left := os.waitpid(pid, os.WNOHANG))[0] == 0 and time.monotonic() < until_s:
    time.sleep(0.05)
if left[0] == 0:
    os.kill(pid, 9)
    sys.exit("the forked process hangs")
print(os.waitstatus_to_exitcode(left[1]), len(asks(process)))
process.close()
"""
KILLED = """
signal.signal(getattr(signal, sys.argv[2]), signal.SIG_DFL if sys.argv[2] == "SIGPIPE" else signal.SIG_IGN)
request = process.begin()
request.push(np.zeros((60, 90, 3), np.uint8), 0.0)
os.kill(process.pid, signal.SIGKILL)
time.sleep(1)
try:
    request.push(np.zeros((60, 90, 3), np.uint8), 1.0)
except RuntimeFailure as error:
    print(error)
request.close()
time.sleep(0.5)  # what is left to say is sent to nobody
print(len(asks(process)))
process.close()
"""


@pytest.fixture(scope="module")
def process(asking: Bundle) -> Iterator[ReasonerProcess]:
    with ReasonerProcess(asking, PLAIN) as opened:
        yield opened


def program(text: str, bundle: Bundle, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM + text, str(bundle.folder), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("before", ["used", "made"])
def test_a_forked_process_is_refused_and_its_parent_asks_on(asking: Bundle, before: str) -> None:
    done = program(FORKED, asking, before)
    assert done.returncode == 0, done.stderr
    refusal, ended = done.stdout.splitlines()
    assert "was made in process" in refusal
    assert ended == "7 1"


def test_a_killed_reasoner_does_not_end_a_program_that_keeps_the_default_of_sigpipe(asking: Bundle) -> None:
    done = program(KILLED, asking, "SIGPIPE")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1"


def test_where_children_are_not_waited_for_the_error_does_not_claim_an_exit_code(asking: Bundle) -> None:
    done = program(KILLED, asking, "SIGCHLD")
    assert done.returncode == 0, done.stderr
    failure, answers = done.stdout.splitlines()
    assert "SIGCHLD" in failure
    assert "code 0" not in failure
    assert answers == "1"


def test_a_program_without_standard_streams_can_ask(asking: Bundle) -> None:
    def close_all() -> None:
        os.closerange(0, 3)

    text = PROGRAM + "answers = asks(process)\nprocess.close()\nos._exit(40 + len(answers))"
    done = subprocess.run(
        [sys.executable, "-c", text, str(asking.folder)], preexec_fn=close_all, timeout=120, check=False
    )
    assert done.returncode == 41


def test_numpy_s_numbers_are_numbers(process: ReasonerProcess) -> None:
    with process.begin(wait_s=np.float64(5)) as request:
        for number, picture in enumerate(PICTURES):
            assert request.push(picture, np.float64(number / 10))
        said = list(
            request.ask(["recognition"], deadline_s=np.float64(60), zero_s=np.float64(0), evidence=np.float32(0.5))
        )
    assert any(isinstance(item, Reply) for item in said)


def test_a_question_that_cannot_be_sent_leaves_the_clip_free_to_ask(process: ReasonerProcess) -> None:
    with process.begin(wait_s=5) as request:
        request.push(PICTURES[0], 0.0)
        with pytest.raises(UnicodeEncodeError):
            next(request.ask(["\ud800"]))
        assert any(isinstance(item, Reply) for item in request.ask(["recognition"]))


def test_waits_without_end_are_taken_and_those_that_are_no_number_refused(process: ReasonerProcess) -> None:
    for wait_s in (math.inf, -1.0):
        with process.begin(wait_s=wait_s):
            pass
    with pytest.raises(ConfigError, match="wait_s in seconds, found nan"):
        process.begin(wait_s=math.nan)
    with process.begin(wait_s=5) as request, pytest.raises(ConfigError, match="found nan"):
        next(request.ask(["recognition"], deadline_s=math.nan))


@pytest.mark.parametrize("wanted", ["cause", [], ()])
def test_tasks_that_are_no_list_are_refused(asking: Bundle, wanted: str | list[str] | tuple[str, ...]) -> None:
    assert asking.manifest.language is not None
    with pytest.raises(ConfigError, match=r'such as \["cause"\]'):
        tasks_of(asking.manifest.language, wanted)


def test_an_event_as_a_dict_names_what_reads_it(asking: Bundle) -> None:
    with Unit(CLIP, asking) as unit, pytest.raises(ConfigError, match=r"found dict; Event\.from_json"):
        next(unit.explain({"source": CLIP}))  # type: ignore[arg-type]


def test_one_failure_raised_again_and_again_keeps_one_traceback(process: ReasonerProcess) -> None:
    depths = []
    with process.begin(wait_s=5) as request:
        request.push(PICTURES[0], 0.0)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        for _ in range(4):
            with pytest.raises(RuntimeFailure) as failed:
                list(request.ask(["recognition"]))
            depths.append(len(traceback.extract_tb(failed.value.__traceback__)))
    assert len(set(depths[1:])) == 1


def test_a_runtime_that_does_not_exist_is_refused_before_the_camera_is_opened(asking: Bundle) -> None:
    """Not hours later, when somebody asks for the first time."""
    with pytest.raises(UnknownNameError, match="unknown runtime 'abacus'; known: null, ort"):
        Unit("rtsp://127.0.0.1:9/none", asking, reasoning=ReasonerSettings(runtime="abacus"))
