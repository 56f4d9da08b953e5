"""A calibration as a whole: what the decoder is given, the same bytes twice, and what a bundle keeps of it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence as Rows
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from asking_clips import make_clip
from pipeline_runs import QUICK, adapters, content, export, make_inputs
from safetensors.numpy import load_file, save

from edge_sdk.bundle import Bundle, rewrite
from edge_sdk.bundle.activations import ACTIVATIONS, read_activations
from edge_sdk.bundle.manifest_language import Language
from edge_sdk.cli.bundle_text import describe
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.explaining.sampling import plan_clip, read_clip
from edge_sdk.export import device as devices
from edge_sdk.export import export_needs
from edge_sdk.export.export_recipe import settle
from edge_sdk.export.language_plan import LanguagePlan
from edge_sdk.export.pipeline import open_plan
from edge_sdk.export.quantise import calibrate as calibration
from edge_sdk.export.quantise.calibrate_needs import take_over
from edge_sdk.export.quantise.clip_sequences import ClipReader, sequence_file
from edge_sdk.export.quantise.collect import Collection
from edge_sdk.export.quantise.sequences import Sequence
from edge_sdk.export.quantise.statistics import Index
from edge_sdk.reasoning.cache import TRUNK, Addition, Prefix
from edge_sdk.reasoning.reasoner import Reasoner
from edge_sdk.runtime import Array
from edge_sdk.toolchain.calibrating import calibrate
from edge_sdk.toolchain.quantising import quantise_bundle

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg is not installed")

NAMES = ("linguistic", "perception")
GROUPS = ("down", "mlp", "o", "qkv")
RECIPE = 'name = "small"\n[linears]\nbits = 4\nblock = 16\n'


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base` with adapters of `NAMES`, `clips` of two clips, and `seen`, what a calibration has seen of them."""
    folder = tmp_path_factory.mktemp("calibrated")
    make_inputs(folder)
    (folder / "clips").mkdir()
    make_clip(folder / "clips/one.mp4", seconds=0.5)
    make_clip(folder / "clips/two.mp4", seconds=0.3, rate="20")
    (folder / "small.toml").write_text(RECIPE)
    run_calibration(folder, folder / "seen")
    return folder


def run_calibration(folder: Path, out: Path) -> None:
    how: dict[str, Any] = {"adapters": adapters(folder, *NAMES), "switchable": True, "dtype": "float32"}
    calibrate(folder / "base", folder / "clips", out, frames=2, quiet=True, **how)


@pytest.fixture(scope="module")
def bundle(root: Path) -> Bundle:
    return quantised(root, root / "bundle")


def quantised(root: Path, out: Path) -> Bundle:
    how: dict[str, Any] = QUICK | {"adapters": adapters(root, *NAMES), "switchable": True}
    quantise_bundle(root / "base", out, str(root / "small.toml"), statistics=root / "seen", quiet=True, **how)
    return Bundle.open(out)


def test_the_same_clips_give_the_same_bytes(root: Path, tmp_path: Path) -> None:
    run_calibration(root, tmp_path / "again")
    first, again = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (root / "seen", tmp_path / "again")
    )
    assert "statistics.json" in first
    assert "probe.00.linguistic.safetensors" in first
    assert again == first


def test_probes_are_of_the_clips_that_the_index_names(root: Path, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for pictures in range(1, 9):
        make_clip(tmp_path / f"clips/{pictures}.mp4", seconds=pictures / 10, rate="10")
    how: dict[str, Any] = {"profiles": ("24f",), "dtype": "float32", "quiet": True}
    report = calibrate(root / "base", tmp_path / "clips", tmp_path / "seen", **how)
    index = msgspec.json.decode((tmp_path / "seen/statistics.json").read_bytes(), type=Index)
    clips, probes = ([clip.name for clip in each] for each in (index.clips, index.probes))
    assert index.held_out
    assert (report.clips, report.kept_out) == (6, 2) == (len(clips), len(probes))
    assert {*clips, *probes} == {f"{pictures}.mp4" for pictures in range(1, 9)}
    order = settle(root / "base", profiles=("24f",), dtype="float32")
    reader = ClipReader(open_plan(order, LanguagePlan), bundle.folder, "24f", None)
    for number, name in enumerate(probes):
        (tmp_path / name).mkdir()
        reader.write(tmp_path / "clips" / name, tmp_path / name)
        kept = Sequence.load(tmp_path / "seen" / f"probe.{number:02}.base.safetensors")
        asked = Sequence.load(tmp_path / name / sequence_file("base"))
        # Answers have come behind the questions; what the clip shows is all of branch 0.
        for branch in range(int(asked.branch.max()) + 1):
            rows, wanted = (each.embeds[each.branch == branch] for each in (kept, asked))
            assert torch.equal(rows[: len(wanted)], wanted)
            assert len(rows) == len(wanted) or branch


class Overheard:
    """What the prefixes of a reasoner take in of a clip, and what branches off right behind it: its questions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clips: dict[Prefix, list[Array]] = {}
        self.questions: dict[Prefix, list[Array]] = {}
        take, growing = Prefix.take, Prefix.growing

        def overheard_take(prefix: Prefix, embeds: Array) -> None:
            take(prefix, embeds)
            self.clips.setdefault(prefix, []).append(np.array(embeds))

        def overheard_growing(prefix: Prefix, additions: Rows[Addition]) -> Any:
            asked = [np.array(each.embeds) for each in additions if each.parent == TRUNK]
            self.questions.setdefault(prefix, []).extend(asked)
            return growing(prefix, additions)

        monkeypatch.setattr(Prefix, "take", overheard_take)
        monkeypatch.setattr(Prefix, "growing", overheard_growing)


def test_sequences_are_what_the_reasoner_gives_its_decoder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how: dict[str, Any] = {"adapters": adapters(root, *NAMES), "switchable": True}
    export(root / "base", tmp_path / "plain", **how)
    opened, clip, heard = Bundle.open(tmp_path / "plain"), root / "clips/one.mp4", Overheard(monkeypatch)
    language = opened.manifest.language
    assert isinstance(language, Language)
    with Reasoner(opened, max_tokens=1) as reasoner:
        plan = plan_clip(clip, language.profiles["96f"])
        with reasoner.begin(source=(plan.info.width, plan.info.height)) as shown:
            for frame in read_clip(clip, plan):
                shown.push(frame.pixels, frame.time_s)
            list(shown.ask(reasoner.tasks))
    order = settle(root / "base", **how, **QUICK)
    (tmp_path / "sequences").mkdir()
    ClipReader(open_plan(order, LanguagePlan), opened.folder, "96f", None).write(clip, tmp_path / "sequences")
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    assert len(heard.clips) == len(language.adapters) == 2
    for name, taken, asked in zip(language.adapters, heard.clips.values(), heard.questions.values(), strict=True):
        found = Sequence.load(tmp_path / "sequences" / sequence_file(name))
        close(found.embeds[found.branch == 0], torch.from_numpy(np.concatenate(taken)))
        assert len(asked) == int(found.branch.max()) == len(language.adapters[name].tasks)
        for number, question in enumerate(asked, start=1):
            close(found.embeds[found.branch == number], torch.from_numpy(question))


def test_a_bundle_keeps_what_was_seen_of_every_channel(root: Path, bundle: Bundle) -> None:
    found = read_activations(bundle)
    names = {f"decoder.base.{layer:02}.{group}" for layer in (0, 1) for group in GROUPS}
    assert {name for name in found if name.startswith("decoder")} == names
    assert {name.rpartition(".")[2] for name in found.keys() - names} == {"qkv", "out", "fc1", "fc2"}
    for layer in (0, 1):
        seen = load_file(root / f"seen/base.{layer:02}.safetensors")
        for group in GROUPS:
            each = found[f"decoder.base.{layer:02}.{group}"]
            assert each.mean is not None
            assert np.array_equal(each.largest, seen[f"{group}.largest"])
            # The gram's diagonal is the sum of squares over tokens, and no mean is above the root of their mean.
            tokens = bundle.manifest.provenance["calibration"]["tokens"]["base"]
            rms = np.sqrt(np.diag(seen[f"{group}.gram"]) / tokens)
            assert (each.mean <= rms * (1 + 1e-5)).all()
            assert (rms <= each.largest * (1 + 1e-5)).all()


def test_statistics_in_a_bundle_are_the_same_twice_and_shown_in_a_line(
    root: Path, bundle: Bundle, tmp_path: Path
) -> None:
    assert content(quantised(root, tmp_path / "again").folder) == content(bundle.folder)
    (line,) = (line for line in describe(bundle) if "activations of" in line)
    name, each = max(read_activations(bundle).items(), key=lambda item: item[1].largest.max())
    assert f"the largest |x| is {each.largest.max():.4g}, in channel {each.largest.argmax()} of {name}" in line


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"decoder.base.00.qkv.mean": np.ones(4, np.float32)}, "mean without its largest"),
        ({"decoder.base.00.qkv.largest": np.ones(4, np.float16)}, "float16"),
        ({"decoder.base.00.qkv.largest": np.full(4, -1, np.float32)}, "below zero"),
        ({"x.largest": np.ones(4, np.float32), "x.mean": np.ones(3, np.float32)}, "4 and 3 channels of x"),
    ],
)
def test_other_numbers_in_their_place_are_refused(
    bundle: Bundle, tmp_path: Path, held: dict[str, Any], words: str
) -> None:
    other = rewrite(bundle, tmp_path / "other", extra_files={ACTIVATIONS: save(held)})
    with pytest.raises(BundleError, match=f"{ACTIVATIONS}: expected float32 .*{words}.*quantise again"):
        read_activations(other)


def refused(root: Path, out: Path, error: type[Exception], words: str, **settings: Any) -> None:
    """A calibration as that of `root / "seen"` is refused before a clip is read, or anything written."""
    how: dict[str, Any] = {"adapters": adapters(root, *NAMES), "switchable": True, "dtype": "float32", "frames": 2}
    with pytest.raises(error, match=words):
        calibrate(root / "base", root / "clips", out, quiet=True, **(how | settings))
    assert not out.exists()
    assert not out.with_name(f"{out.name}.work").exists()


@pytest.mark.parametrize("inside", ["", "work", "a/work"])
def test_a_work_folder_that_would_make_the_result_exist_is_refused_at_once(
    root: Path, tmp_path: Path, inside: str
) -> None:
    words = "expected a folder outside --out .*choose another --work"
    refused(root, tmp_path / "out", ConfigError, words, work=tmp_path / "out" / inside)


def test_statistics_to_add_are_looked_at_before_the_first_clip(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(root, out, ConfigError, "expected what edge-sdk calibrate writes", add=(tmp_path / "none",))
    refused(root, out, ConfigError, "would count twice", add=(root / "seen",))
    tuned = adapters(root, "linguistic")[0], f"perception={root / 'linguistic'}"
    refused(root, out, ConfigError, "another adapter perception: .*calibrate", add=(root / "seen",), adapters=tuned)


def test_a_disk_without_room_for_the_sums_is_refused_before_the_first_clip(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two layers; a gram and two rows for each of four groups, of 32 inputs but for the last one's 48.
    needed = 2 * 4 * (3 * (32 * 32 + 2 * 32) + 48 * 48 + 2 * 48)
    monkeypatch.setattr(export_needs, "free_bytes", lambda path: needed - 1)
    words = r"\d\.\d MB are needed on this disk, .*choose another disk with --work"
    refused(root, tmp_path / "out", ConfigError, words)
    monkeypatch.setattr(export_needs, "free_bytes", lambda path: needed)
    # Room for the sums alone: the states in between are known once there are sequences.
    with pytest.raises(ConfigError, match=words):
        run_calibration(root, tmp_path / "out")
    assert len(list((tmp_path / "out.work").glob("clip.*"))) == 2


def test_the_disk_holds_the_sums_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sums").write_bytes(b"sums")
    take_over(tmp_path / "sums", tmp_path / "linked")
    assert (tmp_path / "linked").samefile(tmp_path / "sums")

    def other_disk(*given: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", other_disk)
        take_over(tmp_path / "sums", tmp_path / "copied")
    assert (tmp_path / "copied").read_bytes() == b"sums"
    assert not (tmp_path / "copied").samefile(tmp_path / "sums")
    linked, own = list[str](), os.link
    monkeypatch.setattr(os, "link", lambda source, place: (linked.append(place.name), own(source, place)))
    run_calibration(root, tmp_path / "seen")
    assert {"base.00.safetensors", "base.01.safetensors", "probe.00.linguistic.safetensors"} <= {*linked}


def test_answers_are_computed_on_the_device_and_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    how: dict[str, Any] = {"frames": 1, "dtype": "float32"}
    calibrate(root / "base", root / "clips", tmp_path / "seen", **how)
    # Eight tokens of an answer, and each reads both layers.
    assert "answers, layers 16/16" in capsys.readouterr().err
    monkeypatch.setattr(calibration, "ClipReader", lambda *given: ClipReader(*given[:4]))
    monkeypatch.setattr(calibration, "Collection", lambda *given: Collection(*given[:4]))
    monkeypatch.setattr(devices, "find_device", lambda asked: torch.device("meta"))
    with pytest.raises(NotImplementedError, match="meta"):
        calibrate(root / "base", root / "clips", tmp_path / "none", quiet=True, **how)
    assert len(list((tmp_path / "none.work").glob("statistics.*"))) == 2


def test_a_bundle_without_a_student_is_refused_before_layers_are_measured(root: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = QUICK | {"adapters": adapters(root, *NAMES), "switchable": True, "quiet": True}
    how |= {"statistics": root / "seen", "sensitivity": True, "student": root / "clips"}
    with pytest.raises(BundleError):
        quantise_bundle(root / "base", tmp_path / "bundle", str(root / "small.toml"), **how)
    assert list(tmp_path.iterdir()) == []


def test_statistics_that_do_not_name_their_weights_are_taken_with_a_caution(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(root / "seen", tmp_path / "seen")
    index = msgspec.json.decode((tmp_path / "seen/statistics.json").read_bytes())
    assert set(index["adapters"]) == {*NAMES}
    del index["weights"], index["adapters"]
    (tmp_path / "seen/statistics.json").write_bytes(msgspec.json.encode(index))
    how: dict[str, Any] = QUICK | {"adapters": adapters(root, *NAMES), "switchable": True, "quiet": True}
    recipe = str(root / "small.toml")
    quantise_bundle(root / "base", tmp_path / "bundle", recipe, statistics=tmp_path / "seen", **how)
    assert "does not name its weights" in capsys.readouterr().err
    tuned = adapters(root, "linguistic")[0], f"perception={root / 'linguistic'}"
    with pytest.raises(ConfigError, match=r"another adapter perception: .*calibrate base with this perception"):
        quantise_bundle(
            root / "base", tmp_path / "other", recipe, statistics=root / "seen", **(how | {"adapters": tuned})
        )
