"""A bundle's video LLM as a teacher: what is kept is what it says when it is asked directly."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from asking_bundles import make_asking
from asking_clips import make_clip

from edge_sdk.bundle import Bundle
from edge_sdk.errors import ConfigError, SourceError
from edge_sdk.explaining.sampling import plan_clip, read_clip
from edge_sdk.export.distil.teacher_cache import TeacherCache
from edge_sdk.export.distil.teaching import Asking, pool, smoothed, teach
from edge_sdk.reasoning import Answer, VisionInput
from edge_sdk.reasoning.forms.distribution import TimeBelief
from edge_sdk.reasoning.reasoner import Reasoner
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import SessionOptions

ASKING = Asking(window_s=1.0, stride_s=0.5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_asking(tmp_path_factory.mktemp("asking"), student=False)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "moving.mp4", seconds=1.6, rate="10")


@pytest.fixture(scope="module")
def cache(bundle: Bundle, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> TeacherCache:
    return teach(bundle, [clip], tmp_path_factory.mktemp("cache"), asking=ASKING)


def digest(clip: Path) -> str:
    return hashlib.sha256(clip.read_bytes()).hexdigest()


def test_what_is_kept_is_what_the_model_says(bundle: Bundle, clip: Path, cache: TeacherCache) -> None:
    lesson, language = cache.read(digest(clip)), bundle.manifest.language
    assert lesson is not None
    assert language is not None
    profile = language.profiles[cache.info.profile]
    plan = plan_clip(clip, profile)
    frames = list(read_clip(clip, plan))
    assert len(frames) == len(lesson.feature_times_s) == 16
    zero_s = plan.info.start_time_s
    np.testing.assert_allclose(lesson.feature_times_s, np.arange(16) / 10, atol=1e-5)
    np.testing.assert_allclose(lesson.score_times_s, [0.5, 1.0, 1.5], atol=1e-5)
    with Reasoner(bundle) as reasoner, reasoner.begin() as asked:
        for end_s, yes in zip(lesson.score_times_s, lesson.yes, strict=True):
            asked.reset()
            for frame in frames:
                if end_s - 1.0 + 1e-3 < frame.time_s - zero_s < end_s + 1e-3:
                    asked.push(frame.pixels, frame.time_s)
            [said] = [each for each in asked.ask(["recognition"]) if isinstance(each, Answer)]
            assert said.probability is not None
            assert yes == pytest.approx(said.probability if said.value else 1 - said.probability, abs=1e-5)
        asked.reset()
        for frame in frames:
            asked.push(frame.pixels, frame.time_s)
        [spoken] = [each for each in asked.ask(["crash_interval"]) if isinstance(each, Answer)]
        belief = asked.belief("crash_interval")
    assert isinstance(spoken.value, tuple)
    assert isinstance(spoken.lo, tuple)
    assert isinstance(spoken.hi, tuple)
    for number, masses in enumerate(belief.masses):
        times_s = belief.first_s + np.arange(len(masses)) / 10
        inside = (times_s >= spoken.lo[number] - 1e-6) & (times_s <= spoken.hi[number] + 1e-6)
        assert masses[inside].sum() >= 0.8 - 1e-6, "the answer's own 80 % interval"
    np.testing.assert_allclose(lesson.densities.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(lesson.densities, smoothed(belief, zero_s, 0.3)[1], atol=1e-6)


def test_features_are_the_tower_s_own(bundle: Bundle, clip: Path, cache: TeacherCache) -> None:
    lesson, language = cache.read(digest(clip)), bundle.manifest.language
    assert lesson is not None
    assert language is not None
    profile = language.profiles[cache.info.profile]
    graph, path = bundle.graph(profile.graphs["native"])
    session = open_runtime("ort").open(path, graph, SessionOptions())
    seen = VisionInput.of(language, profile)
    shown = list(read_clip(clip, plan_clip(clip, profile)))[7]
    tokens = session.run({"patches": seen.normalised(seen.from_rgb(shown.pixels))[None]})["tokens"][0]
    np.testing.assert_allclose(lesson.features[7, -1], tokens.mean(0), atol=2e-3)
    rows, columns = profile.height // 28, profile.width // 28
    assert cache.info.grid == (min(3, rows), min(5, columns))
    picture = torch.from_numpy(tokens.astype(np.float32)).reshape(rows, columns, -1).permute(2, 0, 1)
    pooled = torch.nn.functional.adaptive_avg_pool2d(picture, cache.info.grid).flatten(1).T
    np.testing.assert_allclose(lesson.features[7, :-1], pooled.numpy(), atol=2e-3)


def test_times_are_those_of_the_pictures_that_were_shown(bundle: Bundle, tmp_path: Path) -> None:
    """Of 30 pictures a second FFmpeg's 10 are the third, the sixth and so on: two periods later than their stamps."""
    fast = make_clip(tmp_path / "fast.mp4", seconds=1.6, rate="30")
    lesson = teach(bundle, [fast], tmp_path / "cache", asking=ASKING).read(digest(fast))
    assert lesson is not None
    np.testing.assert_allclose(lesson.feature_times_s, np.arange(16) / 10 + 2 / 30, atol=1e-3)
    np.testing.assert_allclose(lesson.score_times_s, np.array([0.5, 1.0, 1.5]) + 2 / 30, atol=1e-3)


def test_clips_that_are_there_are_not_asked_again(
    bundle: Bundle, clip: Path, cache: TeacherCache, tmp_path: Path
) -> None:
    before = cache.path(digest(clip)).stat().st_mtime_ns
    other = make_clip(tmp_path / "other.mp4", seconds=0.8, rate="10", size=(64, 48))
    again = teach(bundle, [clip, other], cache.folder, asking=ASKING)
    assert cache.path(digest(clip)).stat().st_mtime_ns == before
    assert again.read(digest(other)) is not None
    with pytest.raises(ConfigError, match="stride_s"):
        teach(bundle, [clip], cache.folder, asking=msgspec.structs.replace(ASKING, stride_s=0.25))


def test_a_clip_that_cannot_be_read_stops_no_other(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:200])
    with pytest.raises(SourceError, match=r"2 of 3 clips cannot be read.*the others are in.*broken\.mp4.*gone\.mp4"):
        teach(bundle, [broken, clip, tmp_path / "gone.mp4"], tmp_path / "cache", asking=ASKING)
    found = TeacherCache.open(tmp_path / "cache")
    assert found.read(digest(clip)) is not None
    assert not found.path(digest(broken)).exists()


def test_cells_share_out_what_does_not_divide() -> None:
    tokens = np.arange(5 * 7 * 2, dtype=np.float32).reshape(35, 2)
    found = pool(tokens, (5, 7), (2, 3))
    picture = tokens.reshape(5, 7, 2)
    np.testing.assert_allclose(found[0], picture[:3, :3].mean((0, 1)), rtol=1e-3)
    np.testing.assert_allclose(found[5], picture[3:, 5:].mean((0, 1)), rtol=1e-3)
    np.testing.assert_allclose(found[6], picture.mean((0, 1)), rtol=1e-3)


def test_an_instant_becomes_a_gaussian_and_loses_nothing_at_an_end() -> None:
    instant = np.zeros(100)
    instant[50] = 1
    edge = np.zeros(100)
    edge[0] = 1
    times_s, densities = smoothed(TimeBelief(2.0, (instant, edge)), 0.5, 0.3)
    assert times_s[50] == pytest.approx(2.0 + 5.0 - 0.5)
    expected = np.exp(-0.5 * ((np.arange(100) - 50) * 0.1 / 0.3) ** 2)
    np.testing.assert_allclose(densities[0], expected / expected.sum(), atol=1e-6)
    assert densities[1].sum() == pytest.approx(1.0, abs=1e-5)
    assert densities[1].argmax() == 0


@pytest.mark.parametrize("changes", [{"window_s": 0.0}, {"stride_s": -1.0}, {"smoothing_s": 0.0}])
def test_ways_of_asking_that_make_no_sense_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="above 0 s"):
        Asking(**changes)
