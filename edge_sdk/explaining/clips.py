"""Ask the reasoner about a whole file: sample its frames, choose a profile of the bundle, and ask the questions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import Language
from edge_sdk.capture import refuse_live
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.events import Answer, Event
from edge_sdk.explaining.messages import Piece, ReasoningReport, Reply
from edge_sdk.explaining.process import ReasonerProcess, while_open
from edge_sdk.explaining.request import Deadline
from edge_sdk.explaining.sampling import ClipPlan, plan_clip, read_clip
from edge_sdk.explaining.settings import ReasonerSettings, language_of, profile_of
from edge_sdk.tasks import TASKS, find_task

Spoken = Piece | Reply | ReasoningReport
"""Items yielded while asking: text, whole answers, and finally the cost."""


class Explanation(NamedTuple):
    """The answers by task, in the order of `TASKS`, and a report of their cost."""

    answers: dict[str, Answer]
    report: ReasoningReport


class _Watched(NamedTuple):
    """What the student saw in a file; see `ClipRequest.ask`."""

    events: Sequence[Event] | None
    evidence: float | None


class _View(NamedTuple):
    """How a file is shown: the profile, and the chosen pictures."""

    profile: str
    plan: ClipPlan


def ask_file(
    bundle: Bundle,
    clip: str | Path,
    tasks: Sequence[str],
    *,
    settings: ReasonerSettings | None = None,
    events: Sequence[Event] | None = None,
    evidence: float | None = None,
    deadline_s: float | None = None,
    on_spoken: Callable[[Spoken], object] | None = None,
) -> Explanation:
    """Answer `tasks` about the whole of `clip` in a process that ends afterwards; see `explain_file`.

    The process is opened for as many frames as the clip has, so that a short clip uses a smaller cache. With a deadline
    it opens while the clip is being read, for any number of frames. `on_spoken` is called with each item as it comes.
    Raises what `ReasonerProcess` and `explain_file` raise.
    """
    spoken: list[Spoken] = []
    watched = _Watched(events, evidence)
    with closing(_asked(bundle, clip, tasks, settings or ReasonerSettings(), watched, deadline_s)) as asked:
        for item in asked:
            spoken.append(item)
            if on_spoken is not None:
                on_spoken(item)
    return Explanation(answers_of(spoken), next(item for item in spoken if isinstance(item, ReasoningReport)))


def _asked(
    bundle: Bundle,
    clip: str | Path,
    tasks: Sequence[str],
    settings: ReasonerSettings,
    watched: _Watched,
    deadline_s: float | None,
) -> Generator[Spoken, None, None]:
    if deadline_s is not None:
        with ReasonerProcess(bundle, settings) as process:
            yield from explain_file(process, clip, tasks, **watched._asdict(), deadline_s=deadline_s)
        return
    refuse_live(clip)
    view = _view(language_of(bundle), settings, clip)
    own = msgspec.structs.replace(settings, profile=view.profile)
    with ReasonerProcess(bundle, own, max_frames=len(view.plan.pictures)) as process:
        yield from _explain(process, clip, view, tasks, watched, Deadline(None))


def explain_file(
    process: ReasonerProcess,
    clip: str | Path,
    tasks: Sequence[str],
    *,
    events: Sequence[Event] | None = None,
    evidence: float | None = None,
    deadline_s: float | None = None,
    wait_s: float = 0.0,
) -> Generator[Spoken, None, None]:
    """Yield answers to `tasks` about the whole of `clip`, their text as it comes, and at the end a report.

    Closing the generator gives the question up. Times of answers count from the first decoded frame, like the
    student's. A clip with fewer frames than the reasoner's profile is shown in the best-fitting profile of the same
    rate, unless a profile was chosen. For `events`, `evidence` and `wait_s` see `ClipRequest.ask` and
    `ReasonerProcess.begin`. `deadline_s` includes waiting, opening the model and reading the clip. After it, no further
    frame is shown, and answers are returned as far as they went; if by then the turn has not come or the model is not
    open, that is an error.

    Raises `ConfigError` for a live source, before anything is started, `Cancelled` if the reasoner is closed meanwhile,
    and what the two methods above and opening the file raise.
    """
    refuse_live(clip)
    deadline = Deadline(deadline_s)
    process.start()
    with while_open():
        view = _view(process.language, process.settings, clip, deadline.until_s)
        yield from _explain(process, clip, view, tasks, _Watched(events, evidence), deadline, wait_s)


def _view(language: Language, settings: ReasonerSettings, clip: str | Path, until_s: float | None = None) -> _View:
    own = profile_of(language, settings)
    plan = plan_clip(clip, language.profiles[own], until_s=until_s)
    return _View(own if settings.profile else nearest_profile(language, own, len(plan.pictures)), plan)


def _explain(
    process: ReasonerProcess,
    clip: str | Path,
    view: _View,
    tasks: Sequence[str],
    watched: _Watched,
    deadline: Deadline,
    wait_s: float = 0.0,
) -> Generator[Spoken, None, None]:
    plan, until_s = view.plan, deadline.until_s
    size = (plan.info.width, plan.info.height)
    with process.begin(profile=view.profile, source=size, wait_s=deadline.within_s(wait_s), until_s=until_s) as request:
        for frame in read_clip(clip, plan, until_s=until_s):
            if not request.push(frame.pixels, frame.time_s, until_s=until_s) or deadline.over:
                break
        zero_s = round(plan.info.start_time_s, 6)
        yield from request.ask(tasks, deadline_s=deadline.left_s(), zero_s=zero_s, **watched._asdict())
        if request.report is not None:
            yield request.report


def nearest_profile(language: Language, own: str, frames: int) -> str:
    """Return the profile with the fewest frames that holds `frames` at the rate of the profile `own`, else `own`."""
    profiles = language.profiles
    fitting = [
        name for name, each in profiles.items() if each.rate_hz == profiles[own].rate_hz and each.frames >= frames
    ]
    return min(fitting, key=lambda name: profiles[name].frames, default=own)


def tasks_of(language: Language, wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the tasks to ask, each once and in the order of `TASKS`: `wanted`, or all that the bundle answers.

    Raises `ConfigError` for text or nothing in place of a list, `UnknownNameError` for an unknown task, and
    `BundleError` for one that no adapter of the bundle answers.
    """
    if isinstance(wanted, str) or (wanted is not None and not wanted):
        raise ConfigError(f'expected a list of tasks such as ["cause"], found {wanted!r}; leave it out to ask all')
    able = {task for adapter in language.adapters.values() for task in adapter.tasks}
    if wanted is None:
        return tuple(task.id for task in TASKS if task.id in able)
    asked = {find_task(name).id for name in wanted}
    for name in sorted(asked - able):
        raise BundleError(f"this bundle does not answer {name!r}; it answers: {', '.join(sorted(able))}")
    return tuple(task.id for task in TASKS if task.id in asked)


def evidence_of(event: Event, bundle: Bundle) -> float | None:
    """The student's highest score of `event`; None if the student of another bundle gave it."""
    return event.evidence if event.provenance.bundle_sha256 == bundle.sha256 else None


def answers_of(said: Sequence[Spoken]) -> dict[str, Answer]:
    """Return the answers among `said`, by task, in the order of `TASKS`."""
    found = {item.task: item.answer for item in said if isinstance(item, Reply)}
    return {task.id: found[task.id] for task in TASKS if task.id in found}
