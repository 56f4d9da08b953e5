"""`edge-sdk explain`: ask the video LLM about a file, or about an event found in one, without running the student."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.capture.uri import FileSource, parse_source, redact, shown
from edge_sdk.errors import ConfigError
from edge_sdk.events import Answer, Event, EventClip
from edge_sdk.explaining import ReasonerSettings, ReasoningReport, Spoken, ask_file, evidence_of, language_of, tasks_of
from edge_sdk.files import sha256_of
from edge_sdk.types import Value

_EVENT_SUFFIXES = (".json", ".jsonl", ".ndjson")


class Subject(NamedTuple):
    """What the questions are about: a file or test pattern, and the event found in it, if one was named."""

    clip: str
    event: Event | None


class Explained(Value, frozen=True, kw_only=True):
    """What `edge-sdk explain --json` prints.

    `event` is the event that was named. It holds the answers, unless they are about a saved recording, whose times are
    not the event's.
    """

    schema: int = 1
    source: str
    answers: dict[str, Answer]
    reasoning_ms: dict[str, float]
    reasoning: ReasoningReport
    event: Event | None
    bundle: str
    bundle_sha256: str


def explain(
    what: str,
    bundle: Bundle | str | Path | None = None,
    *,
    tasks: Sequence[str] | None = None,
    settings: ReasonerSettings | None = None,
    deadline_s: float | None = None,
    on_spoken: Callable[[Spoken], object] | None = None,
) -> Explained:
    """Ask `tasks`, by default all, about `what`: a clip, JSON that holds an event, or a file with such JSON.

    `on_spoken` receives everything as it is generated. Raises `ConfigError` for an event that cannot be asked about,
    `BundleError` for a bundle that answers no questions, and what opening the clip and the reasoner raises.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    asked = tasks_of(language_of(opened), tasks)
    subject = read_subject(what)
    # A recording counts time from its own first frame, the event from its source's first: the times do not compare.
    event = None if subject.event is None or subject.event.clip is not None else subject.event
    answers, report = ask_file(
        opened,
        subject.clip,
        asked,
        settings=settings,
        events=[event] if event is not None and event.trigger == "student" else None,
        evidence=None if event is None else evidence_of(event, opened),
        deadline_s=deadline_s,
        on_spoken=on_spoken,
    )
    return Explained(
        source=parse_source(subject.clip).uri,
        answers=answers,
        reasoning_ms=report.ms,
        reasoning=report,
        event=subject.event if event is None else msgspec.structs.replace(event, reasoning=answers),
        bundle=opened.manifest.name,
        bundle_sha256=opened.sha256,
    )


def read_subject(what: str) -> Subject:
    """Find the subject that `what` names: JSON with an event, a file with such JSON, or else a clip.

    The last of several events counts; of an analysis, the last of its `events`. If a saved clip is not where the event
    says, it is looked up beside the event's file, as both may have been copied to another machine. Raises `ConfigError`
    for text without an event, for an event whose frames are not in a file, for a clip that is found in neither place,
    and for a file beside the event that has the clip's name but other bytes.
    """
    if what.lstrip().startswith("{"):
        event = _last_event(what, "the argument")
        return Subject(_clip_of(event), event)
    if not what.lower().endswith(_EVENT_SUFFIXES):
        return Subject(what, None)
    event = _last_event(_text(Path(what)), what)
    uri = _clip_of(event)
    return Subject(uri if event.clip is None else _found(uri, event.clip, Path(what)), event)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{shown(str(path))}: expected a file with an event as JSON, but it cannot be read: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected a file with an event as JSON, found {error}") from error


def _last_event(text: str, source: str) -> Event:
    """Return the last event in one JSON document or in JSON lines; other lines and truncated ones are skipped."""
    whole = _object(text)
    # Not splitlines: it also splits at characters that JSON leaves unescaped within a line.
    for document in [whole] if whole is not None else map(_object, reversed(text.split("\n"))):
        found = _event_in(document or {})
        if found is not None:
            try:
                return msgspec.convert(found, Event)
            except msgspec.ValidationError as error:
                raise ConfigError(
                    f"{source}: expected an event as `edge-sdk run` prints one, found something else ({error})"
                ) from error
    raise ConfigError(
        f"{source}: expected an event as `edge-sdk run` or `analyze --json` prints one, found none; if no event was "
        "found in a clip, ask about the clip itself: edge-sdk explain PATH"
    )


# Any: JSON before its shape is known.
def _object(text: str) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return found if isinstance(found, dict) else None


# Any: as above.
def _event_in(document: dict[str, Any]) -> object:
    """Return the document itself if it is an event, the last event if it is an analysis, else None."""
    events = document.get("events")
    if isinstance(events, list):
        return events[-1] if events else None
    return document if "id" in document else None


def _clip_of(event: Event) -> str:
    uri = event.clip.uri if event.clip is not None else event.source
    if not uri.startswith("file://"):
        raise ConfigError(
            f"event {event.id} is of {redact(uri)}, which keeps no pictures; name a recorded clip of it, or ask while "
            "the source is watched, with Unit.explain"
        )
    return uri


def _found(uri: str, clip: EventClip, told: Path) -> str:
    """Return `uri` if its file can be read, else the URI of the file of that name beside `told`; check its hash."""
    source = parse_source(uri)
    if not isinstance(source, FileSource) or os.access(source.path, os.R_OK):
        return uri
    beside = told.parent / Path(source.path).name
    try:
        digest = sha256_of(beside)
    except OSError as error:
        raise ConfigError(
            f"{told}: expected its clip at {source.path}, or as {beside.name} beside it, found neither "
            f"({error.strerror}); copy both files into one folder"
        ) from error
    if digest != clip.sha256:
        raise ConfigError(
            f"{beside}: expected the clip that {told.name} names, with SHA-256 {clip.sha256}, found one with "
            f"{digest}; a power cut may cause this; ask about the clip itself, or copy both files again"
        )
    return beside.absolute().as_uri()
