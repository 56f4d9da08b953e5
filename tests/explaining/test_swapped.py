"""A bundle that is changed between its opening and the start of the reasoner's process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_sdk.bundle import Bundle, open_bundle, rewrite
from edge_sdk.errors import BundleChangedFileError, BundleError
from edge_sdk.explaining import ReasonerProcess, ReasonerSettings

PLAIN = ReasonerSettings(priority=0)


@pytest.fixture
def folder(asking: Bundle, tmp_path: Path) -> Path:
    return shutil.copytree(asking.folder, tmp_path / "asking")


def test_a_bundle_put_in_its_place_is_refused(asking: Bundle, folder: Path) -> None:
    bundle = open_bundle(folder, expect=asking.sha256)
    rewrite(bundle, folder, version="other", overwrite=True)
    with (
        ReasonerProcess(bundle, PLAIN) as process,
        pytest.raises(BundleError, match="manifest of the bundle has changed"),
    ):
        process.begin()


def test_a_file_put_in_its_place_under_the_same_manifest_is_refused(asking: Bundle, folder: Path) -> None:
    bundle = open_bundle(folder, expect=asking.sha256)
    language = bundle.manifest.language
    assert language is not None
    prompts = folder / language.prompts
    # Of the same size, and good JSON: nothing else would tell.
    changed = prompts.read_bytes().replace(b"crash", b"trash", 1)
    assert changed != prompts.read_bytes()
    prompts.write_bytes(changed)
    with ReasonerProcess(bundle, PLAIN) as process, pytest.raises(BundleChangedFileError, match=language.prompts):
        process.begin()


def test_the_bundle_that_was_named_answers(asking: Bundle, folder: Path) -> None:
    with ReasonerProcess(open_bundle(folder, expect=asking.sha256), PLAIN) as process:
        process.begin().close()
