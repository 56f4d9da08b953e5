"""What once could hold up, mislead or end somebody: signals without names, parents that stood still, slow openings."""

from __future__ import annotations

import math
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from asking_clips import make_clip
from changed_worker import started_with

from edge_sdk.bundle import Bundle
from edge_sdk.errors import Cancelled, ConfigError, RuntimeFailure
from edge_sdk.explaining import ReasonerProcess, ReasonerSettings, Reply, ask_file, child, clips
from edge_sdk.explaining.limits import limit_memory
from edge_sdk.explaining.request import Deadline
from edge_sdk.explaining.sampling import ClipPlan, plan_clip

PLAIN = ReasonerSettings(priority=0)
PICTURE = np.zeros((60, 90, 3), np.uint8)
OPENS_S = 8.0
SLOWLY_OPEN = f"""
import time
from edge_sdk.runtimes import ort
opened = ort.OrtRuntime.open
def slowly(*given):
    time.sleep({OPENS_S})
    ort.OrtRuntime.open = opened
    return opened(*given)
ort.OrtRuntime.open = slowly
"""


def test_a_signal_without_a_name_is_told_by_its_number(asking: Bundle) -> None:
    with ReasonerProcess(asking, PLAIN) as process, process.begin() as clip:
        assert process.pid is not None
        os.kill(process.pid, 35)
        with pytest.raises(RuntimeFailure, match="it was ended by signal 35; ask again"):
            list(clip.ask(["recognition"]))
        assert process.pid is None


def test_after_this_program_closed_it_nobody_is_told_to_ask_again(asking: Bundle) -> None:
    with ReasonerProcess(asking, PLAIN) as process:
        clip = process.begin()
    with pytest.raises(Cancelled, match=r"this program closed it$"):
        clip.push(PICTURE, 0.0)


def test_who_waits_for_a_turn_that_a_closed_process_will_not_give_is_told(asking: Bundle) -> None:
    told: list[BaseException] = []
    with ReasonerProcess(asking, PLAIN) as process:
        first = process.begin()

        def wait() -> None:
            try:
                process.begin(wait_s=60.0)
            except (Cancelled, ConfigError, RuntimeFailure) as error:
                told.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.5)
    first.close()
    waiting.join(20.0)
    assert [str(error) for error in told] == ["this reasoner was closed while a question waited for its turn"]
    assert isinstance(told[0], Cancelled)


def test_who_gives_up_while_the_bundle_opens_holds_up_nobody(asking: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_start", started_with(SLOWLY_OPEN))
    with ReasonerProcess(asking, PLAIN) as process:
        first = threading.Thread(target=lambda: process.begin().close())
        first.start()
        with pytest.raises(RuntimeFailure, match="is still opening its bundle"):
            process.begin(until_s=time.monotonic() + 0.5)
        process.begin(wait_s=5.0).close()
        first.join()


def test_a_file_that_is_long_to_look_at_is_answered_in_spite_of_its_deadline(
    asking: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle opens meanwhile."""

    def slowly(*given: object, until_s: float | None) -> ClipPlan:
        time.sleep(6.0)
        return plan_clip(*given, until_s=until_s)  # type: ignore[arg-type]

    monkeypatch.setattr(clips, "plan_clip", slowly)
    clip = make_clip(tmp_path / "clip.mp4", seconds=1)
    found = ask_file(asking, clip, ["recognition"], settings=PLAIN, deadline_s=5.0)
    assert found.answers["recognition"].abstain
    assert found.report.frames == 1


@pytest.mark.parametrize("bounded", [True, False])
def test_a_bound_of_the_system_s_own_is_kept(bounded: bool) -> None:
    """`ulimit -d`, or `LimitDATA` of systemd: it may not be raised."""
    most = 6_000_000_000
    code = "from edge_sdk.explaining.limits import limit_memory as f; import resource as r; "
    code += f"left = f({20_000 if bounded else None}); print(left, *r.getrlimit(r.RLIMIT_DATA))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (most, most)),
    )
    left_mb, soft, hard = done.stdout.split()
    assert int(soft) <= int(hard) == most
    assert 0 < float(left_mb) * 1e6 < most


def test_a_bound_of_the_system_s_own_that_is_spent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[object] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10**6, 10**6))
    monkeypatch.setattr(resource, "setrlimit", lambda *given: bounds.append(given))
    with pytest.raises(ConfigError, match=r"memory budget above the [\d.]+ MB that .* take, found 1\.0 MB"):
        limit_memory(20_000)
    assert bounds == []


def test_a_picture_that_no_message_can_carry_is_refused(asking: Bundle) -> None:
    huge = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (20_000, 20_000, 3))
    with ReasonerProcess(asking, PLAIN) as process, process.begin() as clip:
        with pytest.raises(ConfigError, match="at most 805 MB, found 20000x20000"):
            clip.push(huge, 0.0)
        clip.push(PICTURE, 0.0)
        assert [each.task for each in clip.ask(["recognition"]) if isinstance(each, Reply)] == ["recognition"]


def test_bounds_may_be_infinite_and_a_deadline_must_be_a_number(asking: Bundle) -> None:
    never = ReasonerSettings(priority=0, silence_s=math.inf, stall_s=math.inf, open_s=math.inf)
    with ReasonerProcess(asking, never) as process:
        process.begin().close()
    with pytest.raises(ConfigError, match="deadline in seconds, found nan"):
        Deadline(math.nan)


STOPPED = """
import sys, time
from edge_sdk.bundle import Bundle
from edge_sdk.explaining import ReasonerProcess, ReasonerSettings
import numpy as np
with ReasonerProcess(Bundle.open(sys.argv[1]), ReasonerSettings(priority=0, silence_s=5)) as process:
    clip = process.begin()
    print("open", flush=True)
    until_s = time.monotonic() + 14
    while time.monotonic() < until_s:  # a wait that is never over, cut into pieces
        process._children[0].wait_for(lambda: time.monotonic() >= until_s)
    clip.push(np.zeros((60, 90, 3), np.uint8), 0.0)
    print(*{each.task for each in clip.ask(["recognition"])}, flush=True)
"""


@pytest.mark.slow
def test_a_parent_that_stood_still_does_not_take_its_process_for_dead(asking: Bundle) -> None:
    """Ctrl-Z and fg: the process goes on saying that it is alive, and nobody reads it."""
    command = [sys.executable, "-c", STOPPED, str(asking.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "open\n"
        time.sleep(1.0)
        parent.send_signal(signal.SIGSTOP)
        time.sleep(7.0)
        parent.send_signal(signal.SIGCONT)
        told, said = parent.communicate(timeout=60)
    assert told == "recognition\n", said
