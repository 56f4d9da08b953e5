"""A bundle that answers gets the student of another one, and keeps all else byte for byte."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from asking_bundles import make_asking, watching
from command_line import last_json, sdk

from edge_sdk.analysis import analyze
from edge_sdk.bundle import Bundle, rewrite
from edge_sdk.bundle.student_part import student_part, with_student
from edge_sdk.errors import ConfigError
from edge_sdk.perception.recogniser import student_of


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_asking(tmp_path_factory.mktemp("asking"))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The demo's student with another operating point and another version of its graph's file, and no demo clip."""
    old = watching()
    point = msgspec.structs.replace(student_of(old).operating_point, confirm=0.77)
    student = msgspec.structs.replace(student_of(old), operating_point=point, operating_points=(point_named("quiet"),))
    return rewrite(old, tmp_path_factory.mktemp("tuned") / "b", student=student, provenance={"recipe": "tuned"})


def point_named(name: str) -> object:
    return msgspec.structs.replace(student_of(watching()).operating_point, name=name)


def content(bundle: Bundle) -> dict[str, bytes]:
    return {path: bundle.path(path).read_bytes() for path in bundle.manifest.files}


def test_the_student_is_the_other_one_and_all_else_is_as_it_was(asking: Bundle, tuned: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "new"
    found = last_json(sdk("bundle", "student", str(tuned.folder), str(out), "--bundle", str(asking.folder), "--json"))
    made = Bundle.open(out)
    assert found == {"bundle": str(out), "sha256": made.sha256, "student": str(tuned.folder)}
    assert made.manifest.student == tuned.manifest.student != asking.manifest.student
    assert (made.manifest.name, made.manifest.version) == (asking.manifest.name, asking.manifest.version)
    assert (made.manifest.language, made.manifest.demo) == (asking.manifest.language, asking.manifest.demo)
    assert content(made) == content(asking)
    assert made.manifest.provenance["student"]["sha256"] == tuned.sha256
    assert made.manifest.provenance["student"]["provenance"]["recipe"] == "tuned"
    clip = watching().path(watching().manifest.demo.video)  # type: ignore[union-attr]
    scores = [analyze(clip, bundle).scores for bundle in (made, tuned)]
    assert np.array_equal(scores[0], scores[1])


def test_a_bundle_that_only_answers_gets_one(tmp_path: Path) -> None:
    answering, other = make_asking(tmp_path, student=False), watching()
    made = with_student(answering, other.folder, tmp_path / "new")
    assert content(made) == content(answering) | content(other)
    assert made.manifest.student == other.manifest.student
    assert made.manifest.demo == other.manifest.demo
    assert made.manifest.graphs == {**answering.manifest.graphs, **other.manifest.graphs}
    assert student_part(made.folder).provenance["sha256"] == other.sha256


def test_what_was_done_to_the_old_student_is_not_told_of_the_new_one(asking: Bundle, tmp_path: Path) -> None:
    said = {"operating_point": {"f1": 0.5}, "held_out": None, "quantise_student": {}, "checkpoint": {"name": "toy"}}
    before = rewrite(asking, tmp_path / "before", provenance=said)
    made = with_student(before, watching().folder, tmp_path / "new")
    assert made.manifest.provenance.keys() == {*asking.manifest.provenance, "checkpoint", "student"}


def test_what_makes_no_such_bundle_is_refused(asking: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "new"
    with pytest.raises(ConfigError, match="expected a bundle with a video LLM, found only a student"):
        with_student(watching(), watching().folder, out)
    answering = make_asking(tmp_path / "answering", student=False)
    with pytest.raises(ConfigError, match="expected a bundle with a student"):
        with_student(asking, answering.folder, out)
    graph = watching().manifest.graphs["student"].file
    odd = rewrite(answering, tmp_path / "odd", extra_files={graph: b"of something else"})
    with pytest.raises(ConfigError, match=r"the student of .* has a file .*, but .* has another one"):
        with_student(odd, watching().folder, out)
    assert not out.exists()
