"""The command line as users start it: a real process, real exit codes, one JSON document at the end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
from command_line import last_json, sdk

from edge_sdk.bundle import default_bundle
from edge_sdk.tasks import TASK_IDS

DEMO_CLIP = default_bundle() / "demo" / "clip.mp4"
CALIBRATE = ("calibrate", "x", "--clips", "y", "--out", "out")
QUANTISE = ("quantise", str(default_bundle()), "--out", "out", "--recipe", "student-int8")


@pytest.fixture(scope="module")
def demo_clip() -> Path:
    return DEMO_CLIP


def test_analyze_prints_the_documented_object(demo_clip: Path) -> None:
    found = last_json(sdk("analyze", str(demo_clip), "--json"))
    watched = {"schema", "source", "crash", "events", "frames", "latency_ms", "bundle", "warnings"}
    assert set(found) == watched | {"answers", "reasoning_ms", "reasoning"}
    assert set(found["source"]) == {"uri", "duration_s", "start_time_s"}
    assert set(found["crash"]) == {"detected", "score", "calibrated", "operating_point"}
    assert set(found["frames"]) == {"decoded", "analysed", "dropped", "repeated"}
    assert set(found["latency_ms"]) == {"decode", "student"}
    assert set(found["latency_ms"]["student"]) == {"p50", "p95"}
    assert set(found["bundle"]) == {"name", "sha256"}
    assert found["schema"] == 1
    # 30 pictures a second were decoded, and 10 given to the student.
    frames, truth = found["frames"], json.loads(demo_clip.with_suffix(".json").read_text())
    assert frames["decoded"] == frames["analysed"] + frames["dropped"] == truth["frames"]
    assert found["crash"]["detected"] is truth["crash"] is True
    start = found["events"][0]["timeline"]["crash_start"]
    assert abs(start["t"] - truth["crash_start_s"]) < 0.7


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, as Linux has it")
def test_an_output_that_is_full_is_one_line_and_may_have_room_again() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", "from edge_sdk.cli.entry import main; main()", "bundle", "show"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr == "edge-sdk: No space left on device; free some disk space, or choose another folder\n"


def test_a_file_that_may_not_grow_so_large_is_named_and_nothing_of_it_stays(tmp_path: Path) -> None:
    folder, out = default_bundle() / "demo", tmp_path / "sheet.png"
    for each in folder.iterdir():
        shutil.copy(each, tmp_path)
    code = (
        "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (4096, 4096)); from edge_sdk.cli.entry import main; main()"
    )
    command = [sys.executable, "-c", code, "scenes", "sheet", str(tmp_path), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(f"edge-sdk: {out}: File too large; check the path and its permissions\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in folder.iterdir())


def test_run_prints_one_event_revision_a_line(demo_clip: Path) -> None:
    result = sdk("run", str(demo_clip))
    assert result.returncode == 0, result.stderr
    revisions = [json.loads(line) for line in result.stdout.splitlines()]
    states = [revision["state"] for revision in revisions]
    assert states.count("confirmed") == 1
    assert states[-1] == "closed"
    assert [r["revision"] for r in revisions] == list(range(1, len(revisions) + 1))


def test_a_file_that_was_cut_off_is_analysed_with_a_warning(demo_clip: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mkv", tmp_path / "cut.mkv"
    words = f"filesrc location={demo_clip} ! qtdemux ! h264parse ! matroskamux ! filesink location={whole}"
    subprocess.run(["gst-launch-1.0", "-q", *words.split()], check=True, timeout=60)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    result = sdk("analyze", str(cut), "--json")
    assert 0 < last_json(result)["frames"]["decoded"] < json.loads(demo_clip.with_suffix(".json").read_text())["frames"]
    assert "edge-sdk: warning:" in result.stderr


def test_bundle_show_and_check() -> None:
    assert last_json(sdk("bundle", "check", "--json"))["ok"] is True
    assert "student" in last_json(sdk("bundle", "show", "--json"))["graphs"]


def test_verify_passes_on_the_demo_bundle_and_leaves_with_4_on_a_changed_one(tmp_path: Path) -> None:
    assert last_json(sdk("verify", "--json"))["ok"] is True
    broken = tmp_path / "bundle"
    shutil.copytree(default_bundle(), broken)
    graph = next(broken.glob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"\x00")
    result = sdk("verify", "--bundle", str(broken))
    assert result.returncode == 4
    assert graph.name in result.stderr
    assert "Traceback" not in result.stderr


def test_doctor_leaves_with_0_and_lists_the_runtimes() -> None:
    checks = last_json(sdk("doctor", "--bundle", "nowhere", "--json"))
    assert any("ort" in check["name"] for check in checks)
    (bundle,) = [check for check in checks if check["name"] == "bundle"]
    assert (bundle["status"], "nowhere" in bundle["found"]) == ("missing", True)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("analyze", "missing.mp4"), 3, "missing.mp4"),
        (("analyze", "gopher://x"), 2, "gopher"),
        (("analyze", "x.mp4", "--runtime", "abacus"), 2, "abacus"),
        (("analyze", "x.mp4", "--bundle", "nowhere"), 3, "nowhere"),
        (("analyze", str(DEMO_CLIP), "--operating-point", "deaf"), 2, "known: balanced"),
        (("distil", "refit", "out", "--clips", "nowhere"), 2, "nowhere"),
        (("scenes", "render", "out", "--size", "big"), 2, "320x192"),
        (("distil", "student", "out"), 2, "--labels"),
        (("distil", "student", "out", "--training", "clips"), 2, "--validation"),
        (("export", "x", "--out", "out", "--adapter", "mine"), 2, "NAME=DIR"),
        (("export", "x", "--out", "out", "--recipe", "nothing"), 2, "crashchat-7b-agx-orin"),
        (("export", "x", "--out", "out", "--slots", "0"), 2, "at least 1"),
        (("bench", "--out", "/dev/null/x"), 2, "/dev/null is a file"),
        (("demo", "--out", "/dev/null/x"), 2, "/dev/null is a file"),
        (("bundle", "demo", str(DEMO_CLIP), "/dev/null/x"), 2, "edge-sdk: /dev/null"),
        ((*CALIBRATE, "--answers", "--frames", "3", "--switchable"), 2, "--frames, --switchable would have no effect"),
        ((*CALIBRATE, "--least", "0"), 2, "--least would have no effect"),
        (("distil", "student", "out", "--labels", "--level"), 2, "--level would have no effect"),
        (
            ("distil", "student", "out", "--training", "a", "--validation", "b", "--labels"),
            2,
            "--labels would have no effect",
        ),
        (("quantise", "x", "--out", "out", "--recipe", "w4", "--count", "3"), 2, "--count would have no effect"),
        ((*QUANTISE, "--target", "x", "--max-kl", "0"), 2, "--max-kl, --target would have no effect"),
        (("plan", "--target", "x86-cpu", "--tensorrt", "junk"), 2, "--tensorrt would have no effect"),
        (("plan", "--target", "orin-nano-8gb", "--tensorrt", "junk"), 2, "such as 10.3.0"),
        (("plan", "--target", "orin-nano-8gb", "--threads", "2"), 2, "--threads would have no effect"),
        (("frobnicate",), 2, "frobnicate"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(
    words: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    result = sdk(*words, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_demo_draws_its_picture_and_answers_all_six_as_it_was(tmp_path: Path) -> None:
    """A car turns left across the path of another; what the bundle doubts must still be of the right form."""
    report = last_json(sdk("demo", "--json", cwd=tmp_path))
    picture = tmp_path / report["picture"]
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert report["analysis"]["crash"]["detected"] is True
    answers, scene = report["analysis"]["answers"], json.loads(DEMO_CLIP.with_suffix(".json").read_text())
    truth = scene["truth"]
    assert list(answers) == list(TASK_IDS)
    assert (answers["recognition"]["value"], answers["recognition"]["text"]) == (True, "Yes")
    assert answers["description"]["text"] == f"{truth['striker']} hits {truth['struck']}"
    assert [answers[task]["abstain"] for task in ("recognition", "description")] == [False, False]
    assert [answers[task]["contradiction"] for task in ("recognition", "description")] == [False, False]
    assert truth["cause"] == "turned_across"
    assert "turns across the path" in answers["cause"]["text"]
    assert "before they turn" in answers["prevention"]["text"]
    start_s, end_s = answers["crash_interval"]["value"]
    assert start_s < scene["crash_end_s"]
    assert end_s > scene["crash_start_s"]
    sign = answers["pre_crash_time"]
    assert sign["lo"] <= scene["pre_crash_start_s"] <= sign["hi"]
    assert {answer["grid"] for answer in answers.values()} == {"140x84"}
    drive = report["quiet_drive"]
    assert drive["truth"]["crash"] is False
    assert drive["analysis"]["events"] == []
    assert drive["alarms"] == 0
    assert 0 < drive["highest"] < drive["threshold"] < 1
    assert drive["watched_s"] == pytest.approx(drive["truth"]["duration_s"], abs=0.1)


@pytest.mark.parametrize("verb", ["run", "analyze", "verify", "bench"])
def test_a_device_that_is_not_here_is_refused_with_what_to_do(verb: str, demo_clip: Path, tmp_path: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    words = (verb, str(demo_clip)) if verb in ("run", "analyze") else (verb,)
    refused = sdk(*words, "--device", "cuda", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "no CUDAExecutionProvider" in refused.stderr
    assert "pip install 'onnxruntime-gpu>=1.23' 'cuda-bindings>=12.8,<1" in refused.stderr
    unknown = sdk(*words, "--device", "tpu", cwd=tmp_path)
    assert (unknown.returncode, unknown.stderr) == (
        2,
        "edge-sdk: unknown device of runtime ort 'tpu'; known: cpu, cuda\n",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.workstation
def test_a_bundle_is_refitted_on_a_label_table_and_used_at_each_point(tmp_path: Path) -> None:
    """Fourteen names for one crash and fourteen for a test pattern: what is fitted is of no use, how it travels is."""
    scale = "videorate ! videoconvert ! videoscale ! video/x-raw,format=I420,width=320,height=192,framerate=10/1"
    for source, name in (
        (f"filesrc location={DEMO_CLIP} ! qtdemux ! h264parse ! avdec_h264", "crash"),
        ("videotestsrc num-buffers=30 pattern=ball", "calm"),
    ):
        words = (
            f"{source} ! {scale} ! x264enc speed-preset=ultrafast ! mp4mux ! filesink location={tmp_path / name}.mp4"
        )
        subprocess.run(["gst-launch-1.0", "-q", *words.split()], check=True, timeout=60)
    start_s = json.loads(DEMO_CLIP.with_suffix(".json").read_text())["crash_start_s"]
    rows = [f"crash.mp4,dashcam,yes,{start_s},{start_s + 1},a{k}" for k in range(14)]
    rows += [f"calm.mp4,dashcam,no,,,b{k}" for k in range(14)]
    table, out = tmp_path / "labels.csv", tmp_path / "refitted"
    table.write_text("\n".join(["clip,view,crash,crash_start_s,crash_end_s,group", *rows]))
    refitted = sdk("distil", "refit", str(out), "--clips", str(table), "--picture", "r.png", "--json", cwd=tmp_path)
    assert "answers were calibrated with the student's earlier scores" in refitted.stderr
    report = last_json(refitted)
    assert (tmp_path / "r.png").read_bytes()[:4] == b"\x89PNG"
    names = {point["name"] for point in report["operating_points"]}
    assert names == {"quiet", "balanced", "sensitive"}
    assert report["held_out"]["clips"] == 28
    shown = sdk("bundle", "show", "--bundle", str(out)).stdout
    assert all(f"operating point {name}" in shown for name in names)
    for name in names:
        words = ("analyze", str(DEMO_CLIP), "--bundle", str(out), "--operating-point", name, "--json")
        found = last_json(sdk(*words))
        assert found["crash"]["operating_point"] == name
        assert {event["provenance"]["operating_point"] for event in found["events"]} == {name}
