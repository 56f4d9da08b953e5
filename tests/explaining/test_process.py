"""The reasoner's process on a real bundle: what it answers, and how it fails without hanging anyone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from asking_bundles import watching
from changed_worker import started_with
from numpy.typing import NDArray
from pushing import until

from edge_sdk.bundle import Bundle
from edge_sdk.capture import FrameHistory, HistorySettings
from edge_sdk.errors import (
    BundleError,
    Cancelled,
    ConfigError,
    EdgeError,
    MissingDependencyError,
    RuntimeFailure,
    UnknownNameError,
)
from edge_sdk.events import Answer, CrashTimeline
from edge_sdk.explaining import (
    ClipRequest,
    LiveClip,
    Piece,
    ReasonerProcess,
    ReasonerSettings,
    ReasoningReport,
    Reply,
    child,
    clips,
    explain_file,
)
from edge_sdk.explaining.kept import KeptFrames
from edge_sdk.explaining.sampling import Shown, read_clip
from edge_sdk.reasoning.answer import Answer as Spoken
from edge_sdk.reasoning.reasoner import Reasoner
from edge_sdk.tasks import TASK_IDS
from edge_sdk.types import Estimate

# Tests run beside others: the process shall not be more patient than they are.
PLAIN = ReasonerSettings(priority=0)
PICTURES = np.random.default_rng(7).integers(0, 255, (3, 60, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def process(asking: Bundle) -> Iterator[ReasonerProcess]:
    """One process for all tests that leave it as it was, or dead."""
    with ReasonerProcess(asking, PLAIN) as opened:
        yield opened


def begin(process: ReasonerProcess, pictures: NDArray[np.uint8] = PICTURES) -> ClipRequest:
    request = process.begin(wait_s=5)
    for number, picture in enumerate(pictures):
        request.push(picture, number / 10)
    return request


def answers(request: ClipRequest, *tasks: str) -> dict[str, Answer]:
    return {item.task: item.answer for item in request.ask(tasks or TASK_IDS) if isinstance(item, Reply)}


def gone(pid: int, within_s: float = 10.0) -> bool:
    """Whether the process `pid` ends in time; one that nobody has waited for yet has ended too."""
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_the_process_answers_what_the_reasoner_answers(process: ReasonerProcess, asking: Bundle) -> None:
    with Reasoner(asking) as reasoner, reasoner.begin() as here:
        for number, picture in enumerate(PICTURES):
            here.push(picture, number / 10)
        expected = {said.task: said for said in here.ask(TASK_IDS) if isinstance(said, Spoken)}
    with begin(process) as request:
        said, report = list(request.ask(TASK_IDS)), request.report
    found = {item.task: item.answer for item in said if isinstance(item, Reply)}
    for task in TASK_IDS:
        mine, theirs = found[task], expected[task]
        assert (mine.text, mine.form, mine.tokens, mine.grid, mine.abstain) == (
            theirs.text,
            theirs.form,
            theirs.tokens,
            theirs.grid,
            theirs.abstain,
        )
        assert mine.value == theirs.value
        assert mine.model == "asking 1"
    streamed = "".join(item.text for item in said if isinstance(item, Piece) and item.task == "prevention")
    assert streamed == found["prevention"].text
    assert report is not None
    assert sorted(report.ms) == ["after_last_frame", "decode", "prefill", "vision"]
    assert (report.frames, report.grid) == (3, "84x56")


def test_a_clip_goes_on_after_it_was_asked(process: ReasonerProcess) -> None:
    with begin(process) as whole:
        expected = answers(whole, "pre_crash_time")
    with begin(process, PICTURES[:1]) as request:
        answers(request, "recognition")
        for number in (1, 2):
            request.push(PICTURES[number], number / 10)
        assert answers(request, "pre_crash_time") == expected


def test_times_count_from_where_the_source_began(process: ReasonerProcess) -> None:
    with begin(process) as request:
        plain = answers(request, "crash_interval")["crash_interval"]
        said = [list(request.ask(["crash_interval"], zero_s=zero_s)) for zero_s in (-7.0, 1000.0)]
        moved, before = (next(item for item in items if isinstance(item, Reply)).answer for items in said)
    assert isinstance(plain.value, tuple)
    assert moved.value == pytest.approx([each + 7 for each in plain.value])
    assert moved.text == plain.text
    assert before.value == (0.0, 0.0), "nothing of the source lies before its first frame"


def test_killed_in_mid_answer_it_fails_that_request_and_answers_the_next(process: ReasonerProcess) -> None:
    with begin(process) as request:
        said = request.ask(["prevention"])
        assert isinstance(next(said), Piece)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(RuntimeFailure, match="ended before it had answered: it was ended by SIGKILL"):
            list(said)
        with pytest.raises(RuntimeFailure, match="SIGKILL"):
            request.push(PICTURES[0], 1.0)
    with begin(process) as request:
        assert answers(request, "recognition")


def test_frames_that_are_kept_are_begun_with_anew_where_the_process_has_died(process: ReasonerProcess) -> None:
    """All that will come has been taken in, so that nothing is left to push by which its death would be noticed."""
    kept = FrameHistory(HistorySettings(width=90, height=60, rate_hz=10.0, keep_s=3.0))
    for number in range(6):
        kept.push(PICTURES[number % len(PICTURES)], 100.0 + number / 10)
    clip = LiveClip(process, KeptFrames(kept, 100.0, CrashTimeline(crash_start=Estimate(t=0.3, lo=0.2, hi=0.4)), 24))
    clip.kept.keep()
    clip.follow()
    until(lambda: clip._pushed == 6, 60.0)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    assert clip._request is not None
    until(lambda child=clip._request._child: child.ended, 60.0)
    *_, reply, report = clip.ask(["recognition"], events=[], deadline_s=None, wait_s=60.0)
    assert isinstance(reply, Reply)
    assert isinstance(report, ReasoningReport)
    assert report.frames == 6


def test_a_bad_request_ends_itself_alone(process: ReasonerProcess) -> None:
    with begin(process) as request:
        pid = process.pid
        request.push(PICTURES[0], 0.0)  # earlier than the last
        with pytest.raises(ConfigError, match="time of a frame"):
            answers(request)
    with process.begin(wait_s=5) as empty, pytest.raises(ConfigError, match="at least 1 frame"):
        answers(empty)
    with begin(process) as request, pytest.raises(ConfigError, match=r"uint8 \[height, width, 3\]"):
        request.push(PICTURES[0, :, :, 0], 1.0)
    assert process.pid == pid


def test_two_at_once_wait_or_are_refused_with_what_runs(process: ReasonerProcess) -> None:
    with begin(process) as first:
        said = first.ask(["prevention"])
        next(said)
        with pytest.raises(ConfigError, match="being asked for prevention"):
            answers(first, "cause")
        with pytest.raises(RuntimeFailure, match="busy with a clip of 3 pictures, asked for prevention"):
            process.begin()
        threading.Timer(0.2, first.close).start()
        with process.begin(wait_s=10) as second:
            second.push(PICTURES[0], 0.0)
            assert answers(second, "recognition")


def test_a_closed_request_stops_the_work_and_wakes_who_waits_for_it(process: ReasonerProcess) -> None:
    request = begin(process)
    said = request.ask(TASK_IDS)
    next(said)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)  # small as the model is, it would be done before anybody can close
    threading.Timer(0.1, request.close).start()
    threading.Timer(0.3, os.kill, (process.pid, signal.SIGCONT)).start()
    with pytest.raises(Cancelled, match="this clip was closed before its answers were ready"):
        list(said)
    with pytest.raises(ConfigError, match="this clip was closed; begin another"):
        next(request.ask(["recognition"]))
    with begin(process) as between:
        said = between.ask(TASK_IDS)
        next(said)
    with pytest.raises(Cancelled, match="this clip was closed before its answers were ready"):
        next(said)
    with begin(process) as other:
        assert answers(other, "recognition")


def test_after_the_deadline_answers_are_given_as_they_stand(process: ReasonerProcess) -> None:
    with begin(process) as request:
        found = {item.task: item.answer for item in request.ask(TASK_IDS, deadline_s=0.0) if isinstance(item, Reply)}
    assert set(found) == set(TASK_IDS)
    assert all(answer.abstain for answer in found.values())


def test_a_file_s_deadline_counts_from_the_question(
    process: ReasonerProcess, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn is not waited for beyond it, and what it takes to look at the clip is part of it."""
    begun_s = time.monotonic()
    with begin(process), pytest.raises(RuntimeFailure, match="busy"):
        next(explain_file(process, clip, ["recognition"], deadline_s=0.1, wait_s=20.0))
    assert time.monotonic() - begun_s < 15

    def slowly(*asked: Any, until_s: float | None) -> Iterator[Shown]:
        for frame in read_clip(*asked, until_s=until_s):
            time.sleep(0.3)
            yield frame

    with begin(process):
        pass
    *replies, report = explain_file(process, clip, TASK_IDS, deadline_s=0.0, wait_s=20.0)
    assert all(isinstance(item, Reply) and item.answer.abstain for item in replies)
    assert isinstance(report, ReasoningReport)
    assert report.frames <= 1
    monkeypatch.setattr(clips, "read_clip", slowly)
    *_, report = explain_file(process, clip, ["recognition"], deadline_s=0.5, wait_s=20.0)
    assert isinstance(report, ReasoningReport)
    assert 1 <= report.frames < 5


SLOWLY = """
import time
from edge_sdk.explaining import answering
push = answering.Answering.push
def slowly(*given):
    time.sleep(1.0)
    push(*given)
answering.Answering.push = slowly
"""


def test_pictures_that_wait_when_the_time_is_over_are_left_out(asking: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a second, and all four are in the process before the question."""
    monkeypatch.setattr(child, "_start", started_with(SLOWLY))
    with ReasonerProcess(asking, PLAIN) as process, process.begin(wait_s=5) as request:
        for number in range(4):
            assert request.push(PICTURES[0], number / 10)
        assert not request.push(PICTURES[0], 0.5, until_s=time.monotonic())
        said = request.ask(["cause", "recognition"], deadline_s=0.1)
        assert {item.task: item.answer.abstain for item in said if isinstance(item, Reply)} == {
            "cause": True,
            "recognition": True,
        }
        assert request.report is not None
        early = request.report.frames
        assert 1 <= early < 4
        request.push(PICTURES[1], 0.6)
        assert answers(request, "recognition")
        assert request.report.frames == early + 1


def test_a_bundle_that_opens_for_longer_than_there_is_time_goes_on_opening(asking: Bundle) -> None:
    with ReasonerProcess(asking, PLAIN) as process:
        process.start()
        pid = process.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(2):  # the turn is given back
                with pytest.raises(RuntimeFailure, match="still opening its bundle; ask again later"):
                    process.begin(until_s=time.monotonic() + 0.2)
        finally:
            os.kill(pid, signal.SIGCONT)
        with begin(process) as request:
            assert answers(request, "recognition")
        assert process.pid == pid


def test_a_process_that_says_nothing_is_ended(asking: Bundle) -> None:
    with ReasonerProcess(asking, ReasonerSettings(priority=0, silence_s=5)) as process, begin(process) as request:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(RuntimeFailure, match="sent nothing for 5 s"):
            answers(request)


def test_a_process_that_does_not_keep_its_deadline_is_ended(asking: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sdk.explaining.request.GRACE_S", 0.5)
    with ReasonerProcess(asking, PLAIN) as process, begin(process) as request:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(RuntimeFailure, match="it missed its deadline"):
            list(request.ask(["recognition"], deadline_s=0.1))


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (ReasonerSettings(priority=0, budget_mb=10), ConfigError, "reasoner's libraries take, found 10.0 MB"),
        (ReasonerSettings(priority=0, runtime="trt"), MissingDependencyError, "tensorrt"),
    ],
)
def test_what_cannot_be_opened_is_one_error_of_its_own_kind(
    asking: Bundle, settings: ReasonerSettings, error: type[EdgeError], words: str
) -> None:
    with ReasonerProcess(asking, settings) as process:
        with pytest.raises(error, match=words):
            process.begin()
        assert process.pid is None


@pytest.mark.native
def test_a_budget_that_work_exceeds_fails_the_request_and_says_why(asking: Bundle) -> None:
    """Libraries fit and the caches do too, by what the bundle says; what the runtime takes on top does not."""
    with Reasoner(asking) as here:
        stated_mb = here.memory_mb
    tiny = ReasonerSettings(priority=0, budget_mb=1)
    with ReasonerProcess(asking, tiny) as process, pytest.raises(ConfigError) as refused:
        process.begin()
    libraries_mb = re.findall(r"above the ([\d.]+) MB that the reasoner's libraries take", str(refused.value))
    # They are told rounded up, and differ by little from one process to the next.
    tight_mb = float(libraries_mb[0]) + 0.5 + stated_mb
    tight = ReasonerSettings(priority=0, budget_mb=tight_mb)
    with ReasonerProcess(asking, tight) as process:
        with pytest.raises(RuntimeFailure, match=f"its budget of {tight_mb:.0f} MB"):
            process.begin()
        assert process.pid is None


def test_a_bundle_that_cannot_answer_or_has_changed_is_refused(asking: Bundle) -> None:
    with pytest.raises(BundleError, match=r"no language part.*--bundle"):
        ReasonerProcess(watching())
    with pytest.raises(UnknownNameError, match="96f"):
        ReasonerProcess(asking, ReasonerSettings(profile="7f"))
    changed = msgspec.structs.replace(asking, sha256="0" * 64)
    with (
        ReasonerProcess(changed, PLAIN) as process,
        pytest.raises(BundleError, match="manifest of the bundle has changed"),
    ):
        process.begin()


def test_a_process_that_cannot_be_told_what_to_open_is_not_left(
    asking: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that is not UTF-8 goes into no message."""
    started: list[subprocess.Popen[bytes]] = []
    start = child._start
    monkeypatch.setattr(child, "_start", lambda end: started.append(start(end)) or started[0])
    nowhere = msgspec.structs.replace(asking, folder=Path(os.fsdecode(b"/\xff")))
    with ReasonerProcess(nowhere, PLAIN) as process, pytest.raises(UnicodeEncodeError):
        process.begin()
    assert started[0].poll() is not None


def test_closing_leaves_no_process(asking: Bundle) -> None:
    process = ReasonerProcess(asking, PLAIN)
    process.start()
    pid = process.pid
    assert pid is not None
    process.close()
    assert gone(pid)
    with pytest.raises(ConfigError, match="closed"):
        process.begin()


def test_a_parent_that_is_killed_leaves_no_process(asking: Bundle) -> None:
    code = (
        "import sys, time\nfrom edge_sdk.bundle import open_bundle\nfrom edge_sdk.explaining import *\n"
        "process = ReasonerProcess(open_bundle(sys.argv[1]), ReasonerSettings(priority=0))\n"
        "process.start()\nprint(process.pid, flush=True)\ntime.sleep(60)\n"
    )
    words = [sys.executable, "-c", code, str(asking.folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert gone(pid)
