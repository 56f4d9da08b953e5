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
