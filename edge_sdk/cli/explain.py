"""`edge-sdk explain`: questions about a file, or about an event that was found in one, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.capture.uri import parse_source
from edge_sdk.errors import ConfigError
from edge_sdk.events import Answer, Event
from edge_sdk.explaining import ReasonerSettings, ReasoningReport, Spoken, ask_file, language_of, tasks_of
from edge_sdk.types import Value

_EVENT_SUFFIXES = (".json", ".jsonl", ".ndjson")


class Subject(NamedTuple):
    """What is asked about: a file or test pattern, and the event that was found in it, if one was named."""

    clip: str
    event: Event | None


class Explained(Value, frozen=True, kw_only=True):
    """What `edge-sdk explain --json` prints. `event` is the one that was named, with the answers in it."""

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
    """Ask `tasks`, by default all, about a clip, or about an event: a file with its JSON, or the JSON itself.

    `on_spoken` is given everything as it comes. Raises `ConfigError` for an event that cannot be asked about,
    `BundleError` for a bundle that does not answer, and what opening the clip and the reasoner raises.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    asked = tasks_of(language_of(opened), tasks)
    subject = read_subject(what)
    event = subject.event
    answers, report = ask_file(
        opened,
        subject.clip,
        asked,
        settings=settings,
        events=None if event is None else [event],
        deadline_s=deadline_s,
        on_spoken=on_spoken,
    )
    return Explained(
        source=parse_source(subject.clip).uri,
        answers=answers,
        reasoning_ms=report.ms,
        reasoning=report,
        event=None if event is None else msgspec.structs.replace(event, reasoning=answers),
        bundle=opened.manifest.name,
        bundle_sha256=opened.sha256,
    )


def read_subject(what: str) -> Subject:
    """What `what` names: an event's JSON, a file that holds one (its last line, of several), else a clip.

    Raises `ConfigError` for text that is no event, and for an event whose pictures are not in a file.
    """
    if what.lstrip().startswith("{"):
        event = _event(what, "the argument")
    elif what.lower().endswith(_EVENT_SUFFIXES):
        event = _event(_last_event(Path(what)), what)
    else:
        return Subject(what, None)
    return Subject(_clip_of(event), event)


def _last_event(path: Path) -> str:
    """The last event in a file: all of it, or the last line that is not the state of a source."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a file with an event as JSON, found {error}") from error
    lines = [line for line in text.splitlines() if line.startswith('{"schema"')]
    return text if text.startswith("{\n") or not lines else lines[-1]


def _event(text: str, source: str) -> Event:
    try:
        return msgspec.json.decode(text, type=Event)
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"{source}: expected an event as `edge-sdk run` prints one, found something else ({error})"
        ) from error


def _clip_of(event: Event) -> str:
    uri = event.clip.uri if event.clip is not None else event.source
    if not uri.startswith("file://"):
        raise ConfigError(
            f"event {event.id} is of {uri}, whose pictures are gone; name a recorded clip of it, or ask while the "
            "source is watched, with Unit.explain"
        )
    return uri
