"""The clock: against the system's own, against the C library's view of the kernel, and where the kernel refuses."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_sdk.hardware import UtcTime, discipline, utc_of

TELL = """
import json, time
from edge_sdk.hardware import discipline, utc_of
known, now = discipline(), utc_of(time.monotonic())
print(json.dumps({
    "known": known and [known.synchronised, known.max_error_s, known.estimated_error_s],
    "source": now.source, "uncertainty_s": now.uncertainty_s, "off_s": now.utc_s - time.time(),
}))
"""

# What a program compiled against the system's own headers reads.
READER = """
#include <stdio.h>
#include <sys/timex.h>
int main(void) {
    struct timex t = {0};
    int state = adjtimex(&t);
    printf("%d %d %ld %ld", state, t.status, t.maxerror, t.esterror);
    return 0;
}
"""

# A kernel that answers what the environment says, laid out by the system's own headers.
KERNEL = """
#include <errno.h>
#include <stdlib.h>
#include <sys/timex.h>
static long get(const char *name) { return atol(getenv(name)); }
int adjtimex(struct timex *t) {
    if (t->modes) abort();
    t->status = get("STATUS"); t->maxerror = get("MAXERROR"); t->esterror = get("ESTERROR");
    errno = EPERM;
    return get("STATE");
}
"""

# Refuses adjtimex and clock_adjtime with EPERM, as container runtimes do for programs without CAP_SYS_TIME.
SYSTEM_CALLS = {"x86_64": (159, 305), "aarch64": (171, 266)}
SANDBOX = """
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
numbers = {numbers}
code = struct.pack("<HBBI", 0x20, 0, 0, 0)
code += struct.pack("<HBBI", 0x15, 1, 0, numbers[0]) + struct.pack("<HBBI", 0x15, 0, 1, numbers[1])
code += struct.pack("<HBBI", 0x06, 0, 0, 0x00050001) + struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
text = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("@HP", 5, ctypes.addressof(text)))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    raise SystemExit(77)
"""


def tell(source: str = TELL, **environment: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", source], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode == 77:
        pytest.skip("this kernel takes no seccomp filters")
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def compile_c(source: str, out: Path, *options: str) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler on Linux")
    out.with_suffix(".c").write_text(source)
    subprocess.run([compiler, *options, "-o", out, out.with_suffix(".c")], check=True)
    return out


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(KERNEL, tmp_path_factory.mktemp("clock") / "kernel.so", "-shared", "-fPIC")


def test_now_is_what_the_system_says() -> None:
    before_s = time.time()
    now = utc_of(time.monotonic())
    after_s = time.time()
    assert before_s - 1e-3 <= now.utc_s <= after_s + 1e-3


def test_instants_keep_their_distance() -> None:
    monotonic_s = time.monotonic()
    times = [utc_of(monotonic_s + shift_s) for shift_s in (-30.0, 0.0, 30.0)]
    assert [each.monotonic_s - monotonic_s for each in times] == pytest.approx([-30.0, 0.0, 30.0])
    assert times[1].utc_s - times[0].utc_s == pytest.approx(30.0, abs=1e-3)
    assert times[2].utc_s - times[1].utc_s == pytest.approx(30.0, abs=1e-3)


@pytest.mark.parametrize(
    ("utc_s", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1751371200.1234, "2025-07-01T12:00:00.123Z"),
        (1751371199.9996, "2025-07-01T12:00:00.000Z"),
        (951782400.5, "2000-02-29T00:00:00.500Z"),
    ],
)
def test_the_text(utc_s: float, text: str) -> None:
    assert UtcTime(monotonic_s=0.0, utc_s=utc_s, uncertainty_s=None, source="system").iso == text


def test_the_kernel_is_read_as_the_c_library_reads_it(tmp_path: Path) -> None:
    reader = compile_c(READER, tmp_path / "reader")
    text = subprocess.run([reader], capture_output=True, text=True, check=True).stdout
    state, status, max_error_us, estimated_us = (int(part) for part in text.split())
    known = discipline()
    if state < 0:
        assert known is None
        return
    assert known is not None
    assert known.synchronised == (state != 5 and not status & 0x40)
    # the kernel raises the maximum error by 500 ppm, so by a ms at most between the two readings
    assert known.max_error_s == pytest.approx(max_error_us / 1e6, abs=2e-3)
    assert known.estimated_error_s == pytest.approx(estimated_us / 1e6, abs=2e-3)
    assert utc_of(time.monotonic()).source == ("ntp" if known.synchronised else "system")


def test_a_clock_that_is_kept(kernel: Path) -> None:
    told = tell(LD_PRELOAD=str(kernel), STATE="0", STATUS="1", MAXERROR="12345", ESTERROR="678")
    assert told["known"] == [True, 0.012345, 0.000678]
    assert told["source"] == "ntp"
    uncertainty_s = told["uncertainty_s"]
    assert isinstance(uncertainty_s, float)
    assert 0.012345 < uncertainty_s < 0.02, "the reading of the two clocks adds its own"


@pytest.mark.parametrize(("state", "status"), [("5", "64"), ("0", "64"), ("5", "0")])
def test_a_clock_that_nobody_keeps(kernel: Path, state: str, status: str) -> None:
    told = tell(LD_PRELOAD=str(kernel), STATE=state, STATUS=status, MAXERROR="16000000", ESTERROR="16000000")
    assert told["known"] == [False, 16.0, 16.0]
    assert (told["source"], told["uncertainty_s"]) == ("system", None)


def test_a_kernel_that_refuses(kernel: Path) -> None:
    told = tell(LD_PRELOAD=str(kernel), STATE="-1", STATUS="0", MAXERROR="1", ESTERROR="1")
    assert (told["known"], told["source"], told["uncertainty_s"]) == (None, "system", None)


def test_a_container_that_forbids_it() -> None:
    numbers = SYSTEM_CALLS.get(platform.machine())
    if numbers is None or not sys.platform.startswith("linux") or ctypes.sizeof(ctypes.c_void_p) != 8:
        pytest.skip("the numbers of the system calls are not known here")
    told = tell(SANDBOX.format(numbers=numbers) + TELL)
    assert (told["known"], told["source"], told["uncertainty_s"]) == (None, "system", None)
    off_s = told["off_s"]
    assert isinstance(off_s, float)
    assert abs(off_s) < 0.1


def test_timedatectl_agrees() -> None:
    command = ["timedatectl", "show", "--property=NTPSynchronized", "--value"]
    if shutil.which(command[0]) is None:
        pytest.skip("no timedatectl here")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("systemd does not run here")
    known = discipline()
    assert known is not None
    assert known.synchronised == (done.stdout.strip() == "yes")
