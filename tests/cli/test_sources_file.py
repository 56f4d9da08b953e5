"""`edge-sdk run --sources FILE`: addresses with passwords stand on no command line, and what is no list is refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest
from command_line import SDK

from edge_sdk.bundle import default_bundle
from edge_sdk.cli.sources_file import read_sources, with_listed
from edge_sdk.errors import ConfigError

CLIP = default_bundle() / "demo" / "clip.mp4"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [SDK, "run", *map(str, words), "--runtime", "null"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def listing(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_a_file_names_sources_beside_those_of_the_command_line(tmp_path: Path) -> None:
    copies = [tmp_path / name for name in ("a.mp4", "b c.mp4", "last.mp4")]
    for copy in copies:
        copy.write_bytes(CLIP.read_bytes())
    listed = listing(tmp_path / "cameras", f"# the yard\n\n  {copies[1]}  \r\n{copies[2]}")
    done = run(copies[0], "--sources", listed, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert [unquote(Path(each["uri"]).name) for each in summary["sources"]] == ["a.mp4", "b c.mp4", "last.mp4"]
    assert all(each["stats"]["delivered"] > 0 for each in summary["sources"])


@pytest.mark.parametrize(
    ("line", "mode", "warned"),
    [
        ("rtsp://user:secret@10.0.0.7/stream", 0o644, True),
        ("rtsp://user:secret@10.0.0.7/stream", 0o400, False),
        ("rtsp://user:secret@10.0.0.7/stream", 0o440, False),
        ("rtsp://10.0.0.7/stream", 0o644, False),
    ],
)
def test_a_password_that_everybody_may_read_is_warned_of(
    line: str, mode: int, warned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = listing(tmp_path / "cameras", line, mode)
    assert read_sources(listed) == [line]
    said = capsys.readouterr().err
    assert ("chmod o=" in said) is warned
    assert "secret" not in said


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "found no source"),
        ("# none yet\n\n", "found no source"),
        (b"\x00\x00\x00 ftypisom", "found something else"),
        (b"rtsp://camera/\xff\n", "found byte 0xff"),
        ("x" * 1_000_001, "found something else"),
    ],
    ids=["empty", "comments", "video", "latin-1", "long"],
)
def test_what_is_no_list_is_refused(text: str | bytes, found: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=found):
        read_sources(listing(tmp_path / "cameras", text))


def test_a_list_that_is_not_there_is_a_mistake_in_an_option(tmp_path: Path) -> None:
    for place, why in ((tmp_path / "nowhere", "No such file or directory"), (tmp_path, "Is a directory")):
        done = run("--sources", place)
        assert (done.returncode, done.stdout) == (2, "")
        assert (
            done.stderr
            == f"edge-sdk: --sources {place}: expected a text file with one source per line, found none ({why})\n"
        )


def test_a_wrong_address_in_a_list_is_told_without_its_password(tmp_path: Path) -> None:
    done = run("--sources", listing(tmp_path / "cameras", "rtsp://user:secret@10.0.0.7:port/stream\n"))
    assert done.returncode == 2
    assert "secret" not in done.stderr
    assert "10.0.0.7" in done.stderr


def test_the_unit_of_the_page_reads_its_list_from_a_credential(tmp_path: Path) -> None:
    """The words of docs/jetson.md, as systemd would fill them in, with the demo's bundle on ONNX Runtime."""
    page = (Path(__file__).parents[2] / "docs" / "jetson.md").read_text(encoding="utf-8")
    (line,) = (line for line in page.splitlines() if line.startswith("ExecStart=") and "--sources" in line)
    filled = {
        "${CREDENTIALS_DIRECTORY}": str(tmp_path),
        "/opt/bundles/current": str(default_bundle()),
        " trt ": " ort ",
    }
    listing(tmp_path / "cameras", f"{CLIP}\n", 0o400)
    for there, here in filled.items():
        assert there in line
        line = line.replace(there, here)
    words = line.partition(" ")[2].split()
    done = subprocess.run([SDK, *words], capture_output=True, text=True, timeout=60, check=True)
    *events, summary = map(json.loads, done.stdout.splitlines())
    assert events[-1]["state"] == "closed"
    assert summary["events"] == len(events)


def test_no_source_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="give --sources FILE"):
        with_listed([], None)
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert "expected at least one source" in done.stderr
