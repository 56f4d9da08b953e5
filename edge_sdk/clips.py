"""Labelled clips: the record beside every rendered scene, and readers for folders and label tables.

Times are seconds since the clip's first decoded frame.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from edge_sdk.errors import ConfigError
from edge_sdk.files import sha256_of

View = Literal["dashcam", "roadside"]
SceneKind = Literal[
    "rear_end", "side", "head_on", "pedestrian", "cyclist", "loss_of_control", "debris", "near_miss", "normal"
]
Light = Literal["day", "dusk", "night"]
Weather = Literal["clear", "rain", "fog"]
Party = Literal["ego-car", "car", "truck", "bus", "cyclist", "pedestrian", "barrier", "object"]
Cause = Literal[
    "following_too_closely",
    "late_reaction",
    "standing_ahead",
    "unsafe_lane_change",
    "lane_drift",
    "pulled_out",
    "no_right_of_way",
    "turned_across",
    "crossed_centre_line",
    "unsafe_overtaking",
    "pedestrian_stepped_out",
    "pedestrian_not_given_way",
    "cyclist_swerved",
    "cyclist_no_right_of_way",
    "passed_too_closely",
    "slippery_road",
    "abrupt_steering",
    "object_on_road",
]
# What was done to the road or the picture to make a harmless moment look like a crash, or to hide a crash.
Effect = Literal["hard_braking", "pothole", "wipers", "cut", "glare", "freeze", "parked_overlap", "low_bitrate"]

SCHEMA = 1
TRUTHS_NAME = "truths.jsonl"
LABELS_NAME = "labels.csv"
COLUMNS = ("clip", "view", "crash", "crash_start_s", "crash_end_s", "group")
T = TypeVar("T")


class SceneTruth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who hit whom in a rendered scene, and why; all parties and the cause are None without a crash.

    `striker` is the party whose own motion carried it into the contact, `struck` the other; `culprit` is the party
    whose scripted behaviour is the cause. `crossing`: their paths crossed (the struck party came from the side).
    """

    striker: Party | None = None
    struck: Party | None = None
    crossing: bool = False
    cause: Cause | None = None
    culprit: Party | None = None
    effects: tuple[Effect, ...] = ()


# Archives of surveillance footage call the fixed camera CCTV; this SDK calls it roadside.
_VIEW_NAMES: dict[str, View] = {"dashcam": "dashcam", "roadside": "roadside", "cctv": "roadside"}
_YES_NO = {"yes": True, "no": False}
# A container's last picture may come this much earlier than the end of the clip by its label.
_PAST_END_S = 1.0


class SceneRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known about one rendered scene; stored as `NAME.json` beside `NAME.mp4`.

    `crash_start_s` is the first contact of the physics, `pre_crash_start_s` the first moment from which the collision
    was foreseeable, `crash_end_s` the last relevant motion of the cars involved; all three are None without a crash.
    `min_gap_m` is the smallest distance between the outlines of two cars of which at least one moved (0 in a crash).
    `truth` is absent in the records of the first family of scenes; `truths.jsonl` beside them holds it.
    """

    schema: int = SCHEMA
    name: str
    seed: int
    generator: str
    view: View
    kind: SceneKind
    scenario: str
    crash: bool
    ego_involved: bool
    light: Light
    weather: Weather
    fps: float
    width: int
    height: int
    frames: int
    duration_s: float
    pre_crash_start_s: float | None
    crash_start_s: float | None
    crash_end_s: float | None
    min_gap_m: float | None
    bitrate_kbps: int
    truth: SceneTruth | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, kw_only=True)
class LabelledClip:
    """One clip with its label. `group` names the recording: clips of one group never go to both sides of a split.

    For a copy in another form, `made_of` identifies what the file was made from, and how, and `copy_of` identifies the
    original clip. If `labelled` is false, nobody has said what the clip shows: only a teacher model can, and `view`,
    `crash` and the times mean nothing.
    """

    path: Path
    view: View
    crash: bool
    start_s: float | None
    end_s: float | None
    pre_crash_s: float | None
    group: str
    record: SceneRecord | None = None
    made_of: str | None = None
    copy_of: str | None = None
    labelled: bool = True


def check_within(clip: LabelledClip, last_s: float) -> None:
    """Raise `ConfigError` if a crash starts more than a second after the clip's last picture, which is at `last_s`."""
    if clip.crash and clip.start_s is not None and clip.start_s > last_s + _PAST_END_S:
        raise ConfigError(
            f"{clip.path}: expected its crash to start within it, found crash_start_s {clip.start_s:g}, but the last "
            f"picture is at {last_s:.1f} s; write seconds since the clip's first picture, not frame numbers and not "
            "times of a longer recording"
        )


def content_of(clip: LabelledClip) -> str:
    """An identifier of a clip's pictures and boxes that stays the same when the file is made again.

    The file's bytes alone would not do, because a container holds the time of day. For a copy in another form it is
    `made_of`, for a rendered scene the SHA-256 of its record, else that of the file.
    """
    if clip.made_of is not None:
        return clip.made_of
    if clip.record is not None:
        return hashlib.sha256(msgspec.json.encode(clip.record)).hexdigest()
    return sha256_of(clip.path)


def without_label(clip: LabelledClip) -> LabelledClip:
    """The clip without its label and without anything else that was known about its content."""
    bare = replace(clip, crash=False, start_s=None, end_s=None, pre_crash_s=None, labelled=False)
    return replace(bare, record=None, made_of=None, copy_of=None)


def label_line(clip: LabelledClip) -> str:
    """What training learns about a clip besides its pictures, as one line."""
    if not clip.labelled:
        return "not labelled"
    return f"{clip.crash} {clip.start_s} {clip.end_s} {clip.pre_crash_s}"


def read_record(path: Path) -> SceneRecord:
    """Read one scene record. Raises `ConfigError` naming the file and the field for an invalid record."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=SceneRecord)
    except OSError as error:
        raise ConfigError(f"cannot read scene record {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"scene record {path} is not valid: {error}") from error
    if record.schema != SCHEMA:
        raise ConfigError(f"scene record {path}: field schema is {record.schema}, this version reads {SCHEMA}")
    if record.crash and record.crash_start_s is None:
        raise ConfigError(f"scene record {path}: field crash_start_s is missing although crash is true")
    return record


class TruthLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a folder's `truths.jsonl`: the name of a scene and its truth."""

    name: str
    truth: SceneTruth


def read_truths(folder: Path) -> dict[str, SceneTruth]:
    """The truths of a folder of rendered scenes by scene name, from its `truths.jsonl` and from its records.

    A scene without a truth is absent from the result. Raises `ConfigError` for a broken file.
    """
    path = folder / TRUTHS_NAME
    try:
        lines = msgspec.json.Decoder(TruthLine).decode_lines(path.read_bytes()) if path.is_file() else []
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(
            f"scene truths {path} cannot be read: {error}; write them with: edge-sdk scenes truth"
        ) from error
    found = {line.name: line.truth for line in lines}
    for record in map(read_record, sorted(folder.glob("[!.]*.json"))):
        if isinstance(record.truth, SceneTruth):
            found[record.name] = record.truth
    return found


def read_scenes(folder: Path) -> list[LabelledClip]:
    """Read a folder of rendered scenes (`NAME.mp4` with `NAME.json`), sorted by name. Raises `ConfigError`."""
    if not folder.is_dir():
        raise ConfigError(f"scene folder {folder} does not exist")
    clips = [_scene_clip(path) for path in sorted(folder.glob("[!.]*.json"))]
    if not clips:
        raise ConfigError(f"scene folder {folder} holds no scene record (*.json)")
    return clips


def read_folder(folder: Path) -> list[LabelledClip]:
    """The labelled clips of a folder: those of its `labels.csv` if there is one, else its rendered scenes."""
    table = folder / LABELS_NAME
    if table.is_file():
        return read_labels(table)
    if folder.is_dir() and not any(folder.glob("[!.]*.json")):
        raise ConfigError(
            f"folder {folder} holds no labelled clips: expected {LABELS_NAME} with the columns {', '.join(COLUMNS)}; "
            "or scenes of edge-sdk scenes render, NAME.mp4 beside NAME.json"
        )
    return read_scenes(folder)


def read_labels(csv_path: Path) -> list[LabelledClip]:
    """Read a label table with `COLUMNS`; its clips lie beside or below it. Raises `ConfigError` for a bad table."""
    rows = read_table(csv_path)
    found = [name for name in rows[0][1] if name] if rows else []
    if missing := [name for name in COLUMNS if name not in found]:
        raise ConfigError(
            f"label table {csv_path}: expected rows with the columns {', '.join(COLUMNS)}, separated by commas, found "
            f"{', '.join(found) or 'no row'}; {missing[0]} is missing"
        )
    clips = [_table_clip(csv_path, line, row) for line, row in rows]
    _check_agree(csv_path, [line for line, _ in rows], clips)
    return clips


def _check_agree(table: Path, lines: Sequence[int], clips: Sequence[LabelledClip]) -> None:
    """Raise `ConfigError` for two rows that label the same file differently."""
    first: dict[Path, tuple[int, LabelledClip]] = {}
    for line, clip in zip(lines, clips, strict=True):
        before, other = first.setdefault(clip.path, (line, clip))
        if (clip.view, clip.crash, clip.start_s, clip.end_s) != (other.view, other.crash, other.start_s, other.end_s):
            raise ConfigError(
                f"label table {table}: expected one label for {clip.path.name}, found two on lines {before} and "
                f"{line}; if a file has several crashes, label the first, or cut it into clips"
            )


def read_groups(csv_path: Path) -> dict[Path, str]:
    """Read each clip of a label table with its recording, ignoring the labels. Raises `ConfigError` for a bad table."""
    found: dict[Path, str] = {}
    for line, row in read_table(csv_path):
        where = f"label table {csv_path}, line {line}"
        found[_file_beside(csv_path, row, where)] = _field(row, "group", where)
    if not found:
        raise ConfigError(f"label table {csv_path}: expected rows with the columns clip and group, found none")
    return found


def read_table(path: Path) -> list[tuple[int, dict[str, str | None]]]:
    """The rows of a label table, each with the line on which it ends; cells missing from a short row are None.

    The table is UTF-8 CSV, with or without a byte order mark. Raises `ConfigError` for anything else.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            return [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise ConfigError(f"cannot read label table {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"label table {path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise ConfigError(f"label table {path} is not in CSV: {error}") from error


def _scene_clip(json_path: Path) -> LabelledClip:
    record = read_record(json_path)
    video = json_path.with_suffix(".mp4")
    if not video.is_file():
        raise ConfigError(f"scene record {json_path} has no video {video.name} beside it")
    return LabelledClip(
        path=video,
        view=record.view,
        crash=record.crash,
        start_s=record.crash_start_s,
        end_s=record.crash_end_s,
        pre_crash_s=record.pre_crash_start_s,
        group=record.name,
        record=record,
    )


def _table_clip(table: Path, line: int, row: dict[str, str | None]) -> LabelledClip:
    where = f"label table {table}, line {line}"
    path = _file_beside(table, row, where)
    crash = _choice(row, "crash", _YES_NO, where)
    start_s, end_s = _seconds(row, "crash_start_s", where), _seconds(row, "crash_end_s", where)
    if crash and start_s is None:
        raise ConfigError(f"{where}: field crash_start_s is empty although crash is yes")
    if not crash and (start_s, end_s) != (None, None):
        raise ConfigError(f"{where}: field crash is no although a crash time is given; leave both times empty")
    if start_s is not None and end_s is not None and end_s < start_s:
        raise ConfigError(f"{where}: field crash_end_s {end_s} is before crash_start_s {start_s}")
    return LabelledClip(
        path=path,
        view=_choice(row, "view", _VIEW_NAMES, where),
        crash=crash,
        start_s=start_s,
        end_s=end_s,
        pre_crash_s=None,
        group=_field(row, "group", where),
    )


def _file_beside(table: Path, row: dict[str, str | None], where: str) -> Path:
    name = Path(_field(row, "clip", where))
    # A table from someone else must not reach outside its folder.
    if name.is_absolute() or ".." in name.parts:
        raise ConfigError(
            f"{where}: field clip is {name}, expected a path below the table's folder; move the clip there, or link it"
        )
    if not (table.parent / name).is_file():
        raise ConfigError(f"{where}: field clip is {name}, but there is no such file in the table's folder")
    return table.parent / name


def _field(row: dict[str, str | None], name: str, where: str) -> str:
    value = row.get(name)
    if not value:
        raise ConfigError(f"{where}: field {name} is missing or empty")
    return value


def _choice(row: dict[str, str | None], name: str, choices: dict[str, T], where: str) -> T:
    value = _field(row, name, where)
    if value not in choices:
        raise ConfigError(f"{where}: field {name} is {value!r}, expected one of {', '.join(choices)}")
    return choices[value]


def _seconds(row: dict[str, str | None], name: str, where: str) -> float | None:
    text = row.get(name)
    if text is None:
        raise ConfigError(f"{where}: field {name} is missing")
    if not text:
        return None
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise ConfigError(f"{where}: field {name} is {text!r}, expected seconds")
    return found
