"""One task's table: the paper's lines, blind answers, and the model's answers in both readings and by condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edge_sdk.evaluation.report import Measure
from edge_sdk.evaluation.tasks import parse, recognition
from edge_sdk.evaluation.tasks.annotations import is_positive
from edge_sdk.evaluation.tasks.blind import TEXT_TASKS, Blind
from edge_sdk.evaluation.tasks.constants import BLIND, PAPER
from edge_sdk.evaluation.tasks.judges import Asked, judge
from edge_sdk.evaluation.tasks.report import Line, LineKind, TaskReport
from edge_sdk.tasks import find_task

Conditions = Mapping[str, Mapping[str, str]]
"""Conditions by video: {"x.mp4": {"light": "night"}}."""


def task_report(asked: Asked, blind: Blind, conditions: Conditions) -> TaskReport:
    """Make one task's table; `blind` holds the constant answers to compare with, `conditions` what to divide by."""
    judged = judge(asked)
    model = [
        Line(
            kind="reference", name="answers, reference's rules", clips=judged.reference_clips, scores=judged.reference
        ),
        Line(kind="repaired", name="answers, repaired", clips=judged.repaired_clips, scores=judged.repaired),
    ]
    return TaskReport(
        task=asked.task,
        clips=len(asked.videos),
        missing=judged.missing,
        dropped=judged.dropped,
        unscorable=judged.unscorable,
        confusion=_confusion(asked),
        lines=(*_published(asked.task), *_blind(asked, blind), *model, *_parts(asked, conditions)),
    )


def _published(task: str) -> Iterator[Line]:
    for prefix, rows in (("paper: ", PAPER[task]), ("blind, paper's test split: ", BLIND[task])):
        for row in rows:
            scores = {name: Measure(value=value, lo=None, hi=None) for name, value in row.scores.items()}
            yield Line(kind="paper", name=prefix + row.name, scores=scores)


def _blind(asked: Asked, blind: Blind) -> Iterator[Line]:
    """Make the lines of the best constant answers on these clips."""
    form = find_task(asked.task).form
    if form == "yes_no" and blind.recognition is not None:
        yield _constant(asked, "Yes" if blind.recognition else "No")
    elif form == "interval" and blind.interval_s is not None:
        yield _constant(asked, f"{blind.interval_s[0]:.1f} - {blind.interval_s[1]:.1f} seconds")
    elif form == "time" and blind.sign_s is not None:
        yield _constant(asked, f"{blind.sign_s:.1f} seconds")
    elif form == "text":
        yield from _blind_texts(asked, blind)


def _constant(asked: Asked, answer: str) -> Line:
    judged = judge(asked.saying([answer] * len(asked.videos)))
    answers = dict.fromkeys(judged.repaired, answer)
    name = f"blind: always {answer!r}"
    return Line(kind="blind", name=name, clips=judged.repaired_clips, scores=judged.repaired, answers=answers)


def _blind_texts(asked: Asked, blind: Blind) -> Iterator[Line]:
    """Make lines of the best constant on all clips, together with a right yes or no, and on crashes only."""
    crashes, negative = asked.of(_crashes(asked)), find_task(asked.task).negative or ""
    if best := blind.of_all.get(asked.task):
        yield _best_of(asked, best, "blind: best constant")
    if best := blind.with_verdict.get(asked.task):
        yield _best_of(asked, best, "blind: right yes/no, best constant", otherwise=negative)
    if crashes.videos and (best := blind.of_crashes.get(asked.task)):
        yield _best_of(crashes, best, "blind: best constant, crashes only")


def _best_of(asked: Asked, best: Mapping[str, str], name: str, otherwise: str | None = None) -> Line:
    """Give each score with the constant that is best at it; `otherwise` replaces it for clips without a crash."""
    scores: dict[str, Measure] = {}
    for answer in dict.fromkeys(best.values()):
        said = [answer if otherwise is None or is_positive(asked.task, truth) else otherwise for truth in asked.truths]
        found = judge(asked.saying(said)).repaired
        scores |= {score: found[score] for score, chosen in best.items() if chosen == answer}
    ordered = {score: scores[score] for score in best}
    return Line(kind="blind", name=name, clips=len(asked.videos), scores=ordered, answers=dict(best))


def _parts(asked: Asked, conditions: Conditions) -> Iterator[Line]:
    """Make lines for parts of the clips; for texts only crashes, since the other clips share one sentence."""
    if asked.task not in TEXT_TASKS:
        yield from _by_condition(asked, conditions, "answers, repaired, ")
        return
    crashes = asked.of(_crashes(asked))
    if crashes.videos:
        yield _part(crashes, "answers, repaired, crashes only", "repaired")
        yield from _by_condition(crashes, conditions, "answers, repaired, crashes only, ")


def _by_condition(asked: Asked, conditions: Conditions, prefix: str) -> Iterator[Line]:
    """Make a line for each value of each condition that divides the clips."""
    for name, chosen in parts(asked.videos, conditions):
        yield _part(asked.of(chosen), prefix + name, "condition")


def parts(videos: Sequence[str], conditions: Conditions) -> Iterator[tuple[str, list[int]]]:
    """Yield name and members (indices) of each value of a condition that divides `videos`."""
    members: dict[tuple[str, str], list[int]] = {}
    for i, video in enumerate(videos):
        for condition in conditions.get(video, {}).items():
            members.setdefault(condition, []).append(i)
    for (name, value), chosen in sorted(members.items()):
        if len(chosen) < len(videos):
            yield f"{name} {value}", chosen


def _part(asked: Asked, name: str, kind: LineKind) -> Line:
    """Make a line for some clips; if all or none are crashes, accuracy is the only meaningful recognition score."""
    judged = judge(asked)
    scores = judged.repaired
    if find_task(asked.task).form == "yes_no" and len({parse.yes_no(truth) for truth in asked.truths}) == 1:
        scores = {each: found for each, found in scores.items() if not each.startswith(("yes_", "no_", "macro_"))}
    return Line(kind=kind, name=name, clips=judged.repaired_clips, scores=scores)


def _crashes(asked: Asked) -> list[int]:
    return [i for i, truth in enumerate(asked.truths) if is_positive(asked.task, truth)]


def _confusion(asked: Asked) -> recognition.Confusion | None:
    """Count the confusion of the repaired reading: an answer that is neither yes nor no is wrong."""
    if find_task(asked.task).form != "yes_no":
        return None
    truth = [parse.yes_no(text) is True for text in asked.truths]
    said = [parse.yes_no(answer or "") for answer in asked.answers]
    return recognition.confusion(truth, [not t if s is None else s for t, s in zip(truth, said, strict=True)])
