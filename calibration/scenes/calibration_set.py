"""The committed calibration set: scenes for activation statistics, balanced by crash, view, light and weather.

Seeds are the first from `FIRST_CALIBRATION_SEED` on that fill even quotas; only conditions drawn from a seed decide.
The set holds hashes of records: the bytes of clips differ between builds of the encoder, records do not.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path

import msgspec

from edge_sdk.balance import Balance
from edge_sdk.calibration.scenes.families import find_family
from edge_sdk.calibration.scenes.plan import draw_conditions
from edge_sdk.calibration.scenes.render import Job, Progress, expected_record, render
from edge_sdk.clips import Light, SceneRecord, View, Weather
from edge_sdk.errors import ConfigError
from edge_sdk.files import write_text

# Below the seeds of the test suites, far from those that are trained on.
FIRST_CALIBRATION_SEED = 8_000_000
SIZE, FPS, CLIPS, FAMILY = (320, 192), 10.0, 64, "first"
SET_PATH = Path(__file__).with_name("calibration_set.json")

_CELLS = tuple(product((True, False), ("dashcam", "roadside"), ("day", "dusk", "night"), ("clear", "rain", "fog")))


class CalibrationScene(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One scene; `record_sha256` is the digest of its record as compact JSON."""

    seed: int
    view: View
    crash: bool
    light: Light
    weather: Weather
    record_sha256: str


class CalibrationSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The scenes, and how they are rendered: frames per second, pixels, and the generator version of their records."""

    family: str
    generator: str
    fps: float
    width: int
    height: int
    scenes: tuple[CalibrationScene, ...]


@dataclass(frozen=True)
class RenderedSet:
    """Records of the rendered scenes in the order of the set, and names of those whose record is not the committed one.

    `records_sha256` is `list_sha256` of the records.
    """

    records: tuple[SceneRecord, ...]
    records_sha256: str
    changed: tuple[str, ...]


def read_calibration_set(path: Path = SET_PATH) -> CalibrationSet:
    """Read the set; raise ConfigError when it is broken or its scenes are of another generator version."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=CalibrationSet)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"calibration set {path}: {error}") from error
    generator = find_family(found.family).generator
    if found.generator != generator:
        raise ConfigError(f"calibration set {path}: field generator is {found.generator!r}, this is {generator!r}")
    return found


def pick_calibration_seeds(clips: int = CLIPS) -> list[int]:
    """The first seeds that fill even quotas of `clips` clips."""
    return list(_filling(_quotas(clips)))


def _quotas(clips: int) -> Counter[tuple[object, ...]]:
    balance, quotas = Balance(), Counter[tuple[object, ...]]()
    for _ in range(clips):
        cell = min(_CELLS, key=balance.used)
        balance.choose(cell)
        quotas[cell] += 1
    return quotas


def _filling(left: Counter[tuple[object, ...]]) -> Iterator[int]:
    for seed in count(FIRST_CALIBRATION_SEED):
        if not left.total():
            return
        drawn = draw_conditions(seed)
        cell = drawn.outcome == "crash", drawn.view, drawn.light, drawn.weather
        if left[cell] > 0:
            left[cell] -= 1
            yield seed


def calibration_scene(record: SceneRecord) -> CalibrationScene:
    """The entry of the set for a record."""
    return CalibrationScene(
        seed=record.seed,
        view=record.view,
        crash=record.crash,
        light=record.light,
        weather=record.weather,
        record_sha256=hashlib.sha256(msgspec.json.encode(record)).hexdigest(),
    )


def compare(expected: CalibrationSet, records: Sequence[SceneRecord]) -> RenderedSet:
    """Compare rendered records with the committed ones; both are in the order of the set."""
    lines = [calibration_scene(record) for record in records]
    pairs = zip(records, lines, expected.scenes, strict=True)
    return RenderedSet(
        records=tuple(records),
        records_sha256=list_sha256(lines),
        changed=tuple(record.name for record, line, wanted in pairs if line != wanted),
    )


def list_sha256(scenes: Sequence[CalibrationScene]) -> str:
    """The digest of the records of all `scenes`, in their order."""
    return hashlib.sha256("".join(scene.record_sha256 for scene in scenes).encode()).hexdigest()


def render_calibration_set(
    out: Path, *, jobs: int = 2, on_progress: Callable[[Progress], None] | None = None
) -> RenderedSet:
    """Render the committed set into the folder `out`, and say which records are not the committed ones.

    Records may differ where other versions of numpy or mujoco plan the traffic. Raises as `render`.
    """
    expected = read_calibration_set()
    records = render(
        [scene.seed for scene in expected.scenes],
        out,
        fps=expected.fps,
        size=(expected.width, expected.height),
        jobs=jobs,
        family=expected.family,
        on_progress=on_progress,
    )
    return compare(expected, records)


def write_calibration_set(path: Path = SET_PATH) -> CalibrationSet:
    """Choose and plan the set, and write it; needed once per generator version."""
    jobs = [Job(seed, path.parent, FPS, SIZE, FAMILY) for seed in pick_calibration_seeds()]
    return save_calibration_set([expected_record(job) for job in jobs], path)


def save_calibration_set(records: Sequence[SceneRecord], path: Path) -> CalibrationSet:
    """Write the set of these records, in their order."""
    scenes = tuple(map(calibration_scene, records))
    generator = find_family(FAMILY).generator
    # One line per scene, so that a change of the set reads well in a diff.
    lines = ",\n".join("  " + msgspec.json.encode(scene).decode() for scene in scenes)
    how = f'"family": "{FAMILY}", "generator": "{generator}", "fps": {FPS}, "width": {SIZE[0]}, "height": {SIZE[1]}'
    write_text(path, f'{{{how}, "scenes": [\n{lines}\n]}}\n')
    return read_calibration_set(path)
