"""Questions about driving, and their answers from a scene's truth: what the model is pre-trained on.

They ask what is in the pictures, where, how it moves, and what touches what and when. None is one of CrashChat's six
questions and none is answered in their words: those are for the adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import get_args

import numpy as np

from edge_sdk.clips import Cause, Party
from edge_sdk.evaluation.tasks.scene_answers import cause_sentence, prevention
from edge_sdk.export.mini.material import Material
from edge_sdk.export.mini.windows import Shot
from edge_sdk.tasks import TASKS

# (question, answer)
Pair = tuple[str, str]
_GROWTH = 1.15
_LARGE = 0.02


def draw_questions(clip: Material, shot: Shot, count: int, random: np.random.Generator) -> list[Pair]:
    """Draw `count` different questions; one of them always asks whether, and when, anything touches."""
    others = random.permutation(len(_OTHERS))[: count - 1]
    chosen: list[Callable[[Material, Shot, np.random.Generator], Pair]] = [_touches, *(_OTHERS[n] for n in others)]
    return [ask(clip, shot, random) for ask in chosen]


def draw_sayings(count: int, random: np.random.Generator) -> list[Pair]:
    """Draw `count` sentences to repeat, which have nothing to do with the scene."""
    return [
        (f"Say after me: {text}", text) for text in (_SAYINGS[int(n)](random) for n in random.integers(4, size=count))
    ]


def sentences() -> Iterator[str]:
    """Every sentence about causes of accidents and what prevents them."""
    for cause in get_args(Cause):
        for party in get_args(Party):
            yield cause_sentence(cause, party)
            yield prevention(cause, party)


def vocabulary_texts() -> Iterator[str]:
    """Every form of question and answer, for the vocabulary to be trained on."""
    yield from ("What is to be seen?", "Dashcam, night, rain.", "Roadside, dusk, fog.", "Dashcam, day, clear.")
    yield from ("How many vehicles are there at 2.5s?", "Where is the nearest vehicle at 0.2s?", "Nowhere.", "None.")
    yield from ("x 41 y 60 width 22 height 18.", "Does anything touch?", "At 4.3s.", "Nothing touches.")
    yield from ("From when is it foreseeable?", "From 3.1s.", "Never.", "Until when does it move?", "Until 7.0s.")
    yield from ("Who touches whom?", "The car, the truck.", "Nobody.", "ego-car", "bus", "truck", "car", "object")
    yield from ("What happens here?", "Lead brake.", "Left turn.", "Crossing.", "Cut in.", "Lane drift.", "Pull out.")
    yield from ("Stopped queue.", "Cruise.", "How does the nearest vehicle change from 1.0s to 2.0s?", "It grows.")
    yield from ("It shrinks.", "It stays.", "It is lost.", "What goes wrong?", "Nothing.")
    yield from (f"The car: {cause.replace('_', ' ')}." for cause in get_args(Cause))


def _touches(clip: Material, shot: Shot, random: np.random.Generator) -> Pair:
    at_s = _begun(clip, shot, clip.record.crash_start_s)
    return "Does anything touch?", "Nothing touches." if at_s is None else f"At {at_s:.1f}s."


def _foreseeable(clip: Material, shot: Shot, random: np.random.Generator) -> Pair:
    touched = _begun(clip, shot, clip.record.crash_start_s)
    at_s = clip.record.pre_crash_start_s
    if touched is None or at_s is None:
        return "From when is it foreseeable?", "Never."
    return "From when is it foreseeable?", f"From {max(at_s - shot.window.start_s, 0):.1f}s."


def _rest(clip: Material, shot: Shot, random: np.random.Generator) -> Pair:
    end_s = clip.record.crash_end_s
    if _begun(clip, shot, clip.record.crash_start_s) is None or end_s is None:
        return "Until when does it move?", "Nothing touches."
    return "Until when does it move?", f"Until {min(end_s, shot.window.end_s) - shot.window.start_s:.1f}s."


def _parties(clip: Material, shot: Shot, random: np.random.Generator) -> Pair:
    truth = clip.truth
    if _begun(clip, shot, clip.record.crash_start_s) is None or truth.striker is None:
        return "Who touches whom?", "Nobody."
    return "Who touches whom?", f"The {truth.striker}, the {truth.struck}."


def _fault(clip: Material, shot: Shot, random: np.random.Generator) -> Pair:
    truth = clip.truth
    if _begun(clip, shot, clip.record.crash_start_s) is None or truth.cause is None:
        return "What goes wrong?", "Nothing."
    return "What goes wrong?", f"The {truth.culprit}: {truth.cause.replace('_', ' ')}."


def _scene(clip: Material, shot: Shot, random: np.random.Generator) -> Pair:
    record = clip.record
    return "What is to be seen?", f"{record.view.capitalize()}, {record.light}, {record.weather}."


def _scenario(clip: Material, shot: Shot, random: np.random.Generator) -> Pair:
    return "What happens here?", f"{clip.record.scenario.replace('_', ' ').capitalize()}."


def _count(clip: Material, shot: Shot, random: np.random.Generator) -> Pair:
    number = int(random.integers(len(shot.pictures)))
    boxes = _visible(clip, shot.pictures[number])
    return f"How many vehicles are there at {stamp(shot, number)}?", f"{len(boxes)}." if len(boxes) else "None."


def _nearest(clip: Material, shot: Shot, random: np.random.Generator) -> Pair:
    number = int(random.integers(len(shot.pictures)))
    boxes = _visible(clip, shot.pictures[number])
    asked = f"Where is the nearest vehicle at {stamp(shot, number)}?"
    if not len(boxes):
        return asked, "Nowhere."
    x0, y0, x1, y1 = (round(100 * float(side)) for side in boxes[boxes[:, 3].argmax(), :4])
    return asked, f"x {(x0 + x1) // 2} y {(y0 + y1) // 2} width {x1 - x0} height {y1 - y0}."


def _growth(clip: Material, shot: Shot, random: np.random.Generator) -> Pair:
    first, last = sorted(random.choice(len(shot.pictures), 2, replace=False).tolist())
    asked = f"How does the nearest vehicle change from {stamp(shot, first)} to {stamp(shot, last)}?"
    before, after = clip.boxes[shot.pictures[first]], clip.boxes[shot.pictures[last]]
    seen = np.flatnonzero(before[:, 4] > 0)
    if not len(seen):
        return asked, "Nowhere."
    nearest = seen[before[seen, 3].argmax()]
    if after[nearest, 4] == 0:
        return asked, "It is lost."
    ratio = _side(after[nearest]) / max(_side(before[nearest]), _LARGE)
    return asked, "It grows." if ratio > _GROWTH else "It shrinks." if ratio < 1 / _GROWTH else "It stays."


def _say_sentence(random: np.random.Generator) -> str:
    return _SENTENCES[int(random.integers(len(_SENTENCES)))]


def _say_time(random: np.random.Generator) -> str:
    first, last = sorted(random.uniform(0, 12, 2).tolist())
    return f"{first:.1f} seconds" if random.random() < 0.5 else f"{first:.1f} - {last:.1f} seconds"


def _say_parties(random: np.random.Generator) -> str:
    one, other = (get_args(Party)[int(n)] for n in random.integers(len(get_args(Party)), size=2))
    verb = ("hits", "hits a", "hits a crossing", "is out of control")[int(random.integers(4))]
    return f"{one} {verb}" if verb == "is out of control" else f"{one} {verb} {other}"


def _say_word(random: np.random.Generator) -> str:
    words = ("Yes", "No", *(task.negative for task in TASKS if task.negative))
    return words[int(random.integers(len(words)))]


_SENTENCES = tuple(sentences())
_SAYINGS = (_say_sentence, _say_time, _say_parties, _say_word)
_OTHERS = (_foreseeable, _rest, _parties, _fault, _scene, _scenario, _count, _nearest, _growth)


def stamp(shot: Shot, number: int) -> str:
    """A frame's time as the prompt writes it."""
    return f"{float(np.round(shot.stamps_s[number], 1))}s"


def _begun(clip: Material, shot: Shot, time_s: float | None) -> float | None:
    """Convert `time_s` of the clip to time of the window; None where the window ends before it."""
    return None if time_s is None or time_s >= shot.window.end_s else time_s - shot.window.start_s


def _visible(clip: Material, picture: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    boxes = clip.boxes[picture]
    found: np.ndarray[tuple[int, int], np.dtype[np.float32]] = boxes[boxes[:, 4] > 0]
    return found


def _side(box: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float32]]) -> float:
    return float(np.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 0.0)))
