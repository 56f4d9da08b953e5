"""The Python that the reasoner's process is started with, where the program that asks is none itself."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from multiprocessing import spawn
from pathlib import Path

import numpy as np
import pytest

import edge_sdk
from edge_sdk import _native
from edge_sdk.bundle import Bundle
from edge_sdk.errors import MissingDependencyError
from edge_sdk.explaining import ReasonerProcess, ReasonerSettings, Reply

PLAIN = ReasonerSettings(priority=0)
TOLD = r"expected a Python interpreter .*, found {found}.*multiprocessing\.set_executable\(path\)"


def answered(process: ReasonerProcess) -> bool:
    with process.begin(wait_s=5.0) as shown:
        shown.push(np.zeros((60, 90, 3), np.uint8), 0.0)
        return any(isinstance(item, Reply) for item in shown.ask(["recognition"]))


@pytest.fixture
def told() -> object:
    """Whatever a test names is forgotten."""
    before = spawn.get_executable()
    yield
    multiprocessing.set_executable(before)  # type: ignore[arg-type]


@pytest.mark.usefixtures("told")
def test_a_frozen_program_is_not_started_for_an_interpreter(asking: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    own = sys.executable
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/usr/bin/daemon")
    multiprocessing.set_executable("/usr/bin/daemon")
    with ReasonerProcess(asking, PLAIN) as process:
        with pytest.raises(MissingDependencyError, match=TOLD.format(found="a frozen program, '/usr/bin/daemon'")):
            process.begin()
        multiprocessing.set_executable(own)
        assert answered(process)


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("empty", ["", None])
def test_a_program_that_embeds_python_names_an_interpreter(
    empty: str | None, asking: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = sys.executable
    monkeypatch.setattr(sys, "executable", empty)
    multiprocessing.set_executable("")
    with ReasonerProcess(asking, PLAIN) as process:
        with pytest.raises(MissingDependencyError, match=TOLD.format(found="no sys.executable")):
            process.begin()
        multiprocessing.set_executable(own)
        assert answered(process)


EMBEDS = """
import json, sys
sys.path.extend(json.loads(sys.argv[2]))
import numpy as np
from edge_sdk.bundle import Bundle
from edge_sdk.explaining import ReasonerProcess, ReasonerSettings
with ReasonerProcess(Bundle.open(sys.argv[1]), ReasonerSettings(priority=0)) as process, process.begin() as shown:
    shown.push(np.zeros((60, 90, 3), np.uint8), 0.0)
    print(*{item.task for item in shown.ask(["recognition"])})
"""


def test_what_the_program_has_put_on_its_path_is_found_by_the_process(asking: Bundle, tmp_path: Path) -> None:
    """A bare interpreter knows no packages, but those that its program points it to."""
    bare = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not bare.exists():
        pytest.skip(f"no interpreter at {bare}")
    # The SDK as it lies when it is installed, also where these tests run from a checkout.
    installed = tmp_path / "installed" / "edge_sdk"
    installed.mkdir(parents=True)
    compiled = Path(_native.__file__)
    for part in (*Path(edge_sdk.__file__).parent.iterdir(), compiled):
        if not (installed / part.name).exists():
            (installed / part.name).symlink_to(part)
    found = json.dumps([str(installed.parent), str(Path(np.__file__).parents[1])])
    done = subprocess.run(
        [bare, "-I", "-c", EMBEDS, str(asking.folder), found], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.stdout == "recognition\n", done.stderr
