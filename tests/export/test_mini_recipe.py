"""What a recipe of the small video LLM may not ask for is told before anything is rendered."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.export.mini.recipe import load_recipe


@pytest.mark.parametrize("name", ["language-mini", "language-adapters"])
def test_adapters_see_no_windows_of_a_number_of_frames(tmp_path: Path, name: str) -> None:
    """Such windows and whole clips, which some questions need, have lengths that do not fit into one batch."""
    _, text = load_recipe(name)
    assert text.count("[windows]\nwhole = 0.5\n") == 1
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("[windows]\nwhole = 0.5\n", "[windows]\nwhole = 0.0\nframes = 12\n"))
    with pytest.raises(ConfigError, match=r"no frames in \[windows\], which adapters see, found 12"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("line", "found", "message"),
    [
        (
            "learning_rate = 2.5e-3",
            "learning_rate = nan",
            r"linguistic\.stage\.learning_rate must be above 0, found nan",
        ),
        ("steps = 1000", "steps = 0", r"linguistic\.stage\.steps must be at least 1, found 0"),
        ("questions = 4", "questions = 0", r"linguistic\.questions must be at least 1, found 0"),
        ("questions = 7", "questions = -1", r"language\.phases\.questions must be at least 1, found -1"),
        ("rank = 16", "rank = 0", r"linguistic\.rank must be at least 1, found 0"),
        ("dropout = 0.05", "dropout = 2.0", r"linguistic\.dropout must be at least 0 and below 1, found 2"),
        ("least = 0.6", "least = 0.0", r"views\.least must be above 0 and at most 1, found 0"),
        ("tokens = 2.0", "tokens = inf", r"language\.auxiliary\.tokens must be at least 0, found inf"),
        ("heads = 4", "heads = 0", r"sizes\.heads must be at least 1, found 0"),
        ("least_s = 0.5", "least_s = -1.0", r"windows\.least_s must be at least 0, found -1"),
        ('precision = "bf16"', 'precision = "bf17"', "precision"),
        ("seed = 14", "seed = -1", "seed must be at least 0, found -1"),
    ],
)
def test_a_number_that_no_training_can_use_is_refused_by_its_key(
    tmp_path: Path, line: str, found: str, message: str
) -> None:
    _, text = load_recipe("language-onward")
    assert f"\n{line}\n" in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(f"\n{line}\n", f"\n{found}\n", 1))
    with pytest.raises(ConfigError, match=message):
        load_recipe(path)


def test_pre_training_without_a_phase_is_refused(tmp_path: Path) -> None:
    _, text = load_recipe("language-onward")
    begin, end = text.index("[[language.phases]]"), text.index("[linguistic]")
    path = tmp_path / "mine.toml"
    path.write_text(
        text[:begin].replace("[language.auxiliary]", "[language]\nphases = []\n\n[language.auxiliary]") + text[end:]
    )
    with pytest.raises(ConfigError, match=r"at least one \[\[language\.phases\]\], found none"):
        load_recipe(path)
