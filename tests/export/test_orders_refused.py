"""Orders of bundles that are refused before a checkpoint is opened: there is none here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.errors import CheckpointError, ConfigError
from edge_sdk.export.export_recipe import settle
from edge_sdk.hardware import find_target
from edge_sdk.toolchain.exporting import export_bundle, work_folder
from edge_sdk.toolchain.quantising import quantise_bundle

ORIN = "crashchat-2b-orin-nano"


@pytest.mark.parametrize("below", ["", "work", "deep/work", "../out/work"])
def test_a_work_folder_in_the_bundles_own(below: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for make in (export_bundle, lambda *words, **more: quantise_bundle(*words, "w4", **more)):
        with pytest.raises(ConfigError, match=r"--work .* is the bundle's own folder .*out, or inside it; choose one"):
            make(tmp_path / "none", out, work=out / below, quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_a_link_into_the_bundles_folder_is_seen_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(ConfigError, match="or inside it"):
        work_folder(tmp_path / "out", tmp_path / "link" / "work")


def test_other_work_folders_are_taken(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert work_folder(out, None) == tmp_path / "out.work"
    assert work_folder(out, tmp_path / "other") == tmp_path / "other"
    assert work_folder(out, tmp_path) == tmp_path
    out.mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        work_folder(out, None)


@pytest.mark.parametrize(("given", "refused"), [(None, True), ("orin-nano-8gb", True), ("rtx-4090", False)])
def test_a_recipe_is_for_the_target_of_its_export_unless_told(given: str | None, refused: bool, tmp_path: Path) -> None:
    assert "fp8" not in find_target("orin-nano-8gb").dense_tops
    said = pytest.raises(ConfigError, match="expected a target with fp8 products, orin-nano-8gb")
    # What is not refused comes as far as the statistics that are missing.
    with said if refused else pytest.raises((ConfigError, CheckpointError), match="calibrate"):
        quantise_bundle(tmp_path / "none", tmp_path / "out", "fp8", export=ORIN, target=given, device="cpu", quiet=True)


@pytest.mark.parametrize(("profile", "tokens"), [("96f", 91), ("48f", 190)])
def test_a_cache_without_room_for_a_frame(profile: str, tokens: int, tmp_path: Path) -> None:
    """Tokens by the sizes in the manual: 364x196 and 532x280 in squares of 28."""
    words = rf"a frame of {profile} takes {tokens} tokens .* found at most {tokens}; give more"
    with pytest.raises(ConfigError, match=words):
        settle(tmp_path, profiles=(profile,), slots=(16, tokens))
    assert settle(tmp_path, profiles=(profile,), slots=(16, 2048)).recipe.slots == (16, 2048)
