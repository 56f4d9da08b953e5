"""Commands that install: the packages are those of pyproject.toml, and none asks PyPI for this project's name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk.packages import EXTRAS, extra_of, packages_of, pip_install
from edge_sdk.registry import RUNTIMES

ROOT = Path(__file__).parents[1]
OURS = ("benchmarks", "calibration", "docs", "edge_sdk", "export", "runtimes")


def declared() -> dict[str, list[str]]:
    """The extras as pyproject.toml has them; read as text, since Python 3.10 has no reader of TOML."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = text.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    lines = re.findall(r"^(\w+) = \[(.*?)\]$", table, re.MULTILINE | re.DOTALL)
    return {name: re.findall(r'"([^"]+)"', items) for name, items in lines}


def on(system: str, requirements: list[str]) -> list[str]:
    return [each.partition(";")[0] for each in requirements if ";" not in each or f"'{system}'" in each]


def here(requirements: list[str]) -> list[str]:
    """Those for this Python; the one marker of versions is where Python 3.11 begins."""
    other = "python_version >= '3.11'" if sys.version_info < (3, 11) else "python_version < '3.11'"
    return [each.partition(";")[0] for each in requirements if other not in each]


def test_every_extra_names_the_packages_of_the_project() -> None:
    extras = declared()
    assert set(extras) == {*EXTRAS, "gst", "dev"}
    for name in EXTRAS:
        assert sorted(packages_of(name)) == sorted(here(extras[name])), name
    for system in ("linux", "darwin", "win32"):
        assert sorted(packages_of("gst", system)) == sorted(on(system, extras["gst"])), system


def test_a_command_quotes_what_a_shell_would_take_for_its_own() -> None:
    below = "12.9" if sys.version_info < (3, 11) else "13"
    assert pip_install("cuda") == f"pip install 'onnxruntime-gpu>=1.23' 'cuda-bindings>=12.8,<{below}'"
    assert pip_install("plot", again=True) == "pip install --force-reinstall --no-deps 'matplotlib>=3.8'"


def test_whoever_names_an_extra_names_one_that_is_there() -> None:
    assert {extra for name, (_, extra) in RUNTIMES.items() if name != "null"} <= EXTRAS.keys()


@pytest.mark.parametrize("extra", ["cpu", "export", "plot", "scenes"])
def test_a_package_that_is_not_there_is_told_with_its_extra(extra: str) -> None:
    """These are imported where they are used, and the command line says how to install them."""
    for requirement in declared()[extra]:
        assert extra_of(re.split("[<>=]", requirement)[0]) == extra
    assert extra_of("a_package_of_nobody") is None


def test_a_room_whose_package_is_not_installed_says_what_to_install() -> None:
    code = (
        "import sys\nsys.modules['torch'] = None\n"
        "from edge_sdk.errors import MissingDependencyError\nfrom edge_sdk.registry import open_room\n"
        "try:\n    open_room('export.pipeline')\nexcept MissingDependencyError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.match(r"this needs the package 'torch', which is not installed; run: pip install 'torch>=", done.stdout)


def test_the_package_tells_type_checkers_that_it_is_typed() -> None:
    assert (ROOT / "edge_sdk" / "py.typed").is_file()


def test_every_module_of_the_ground_is_held_to_import_no_room() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contracts = text.split("[[tool.importlinter.contracts]]")
    (ground,) = (each for each in contracts if '"edge_sdk.analysis"' in each)
    listed = set(re.findall(r'"edge_sdk\.(\w+)"', ground.partition("forbidden_modules")[0]))
    found = (path for path in (ROOT / "edge_sdk").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file())
    there = {path.stem for path in found if not path.stem.startswith("_")}
    assert listed == there - {"runtimes", "export", "calibration", "benchmarks"}


@pytest.mark.parametrize("folder", [*OURS, "README.md"])
def test_nothing_sends_a_user_to_another_project_of_this_name(folder: str) -> None:
    place = ROOT / folder
    told = [place] if place.is_file() else [p for p in place.glob("**/*") if p.suffix in (".py", ".md", ".toml")]
    assert told
    for path in told:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"edge[-_]sdk\[|pip install (-\S+ )*edge[-_]sdk\b", text), path
