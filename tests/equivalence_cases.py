"""Whole answers of the reasoner against transformers' greedy generation, however they came about, as rows of one table.

Each of transformers' six answers is a run of its own. Here they come in calls of any length, together or one by one,
behind a clip that was asked before, and in caches that held another clip. As a script it writes the table:
`python tests/equivalence_cases.py OUT TOKENIZER`, TOKENIZER being a folder with Qwen2.5's tokenizer files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest.mock import patch

import msgspec
import numpy as np
from measured import table, write_measured
from reasoner_cases import Said, Speaker, make_speaker, transformers_answer
from toy_speaker import STEP_S, pictures

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.reasoning.answer import Answer, AnswerContext, Floats, Growth
from edge_sdk.reasoning.asking import Piece
from edge_sdk.reasoning.cache.calls import CallShape
from edge_sdk.reasoning.cache.slots import Mask, SlotTree
from edge_sdk.reasoning.clip import Clip
from edge_sdk.reasoning.forms.free_text import TextReader
from edge_sdk.reasoning.patches import Pixels
from edge_sdk.reasoning.reasoner import Reasoner
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import TASK_IDS, Task
from edge_sdk.types import Dialect

KINDS = ("base", "merged", "switchable")
DIALECTS: tuple[Dialect, ...] = ("native", "decomposed")
FRAMES, TOKENS = 7, 10
SHOWN = pictures(FRAMES)
USUAL = "64"
SHAPES = {
    "1": CallShape(prefill=1, step=1, rows=1),
    "3, padded": CallShape(prefill=3, step=3, rows=2, fixed=True),
    "7": CallShape(prefill=7, step=5, rows=4),
    "7, of few slots": CallShape(prefill=7, step=5, rows=4, slot_step=32),
    "32, padded": CallShape(prefill=32, step=8, rows=8, fixed=True),
    USUAL: CallShape(prefill=64, step=8, rows=8),
    "all at once": CallShape(prefill=1024, step=8, rows=8),
}
"""By how many tokens go in together; in the last, clip and questions do."""

WIDE = CallShape(prefill=128, step=128, rows=8)
"""Steps with so much room that a time is followed as far beside other questions as alone."""

Spoken = dict[str, Said]


class Hearing(TextReader):
    """A reader of text that keeps the logits it reads."""

    def __init__(self, task: Task, tokenizer: Tokenizer, context: AnswerContext) -> None:
        super().__init__(task, tokenizer, context)
        self.logits: list[Floats] = []

    def read(self, logits: Mapping[int, Floats]) -> Sequence[Growth]:
        self.logits += [row.copy() for row in logits.values()]
        return super().read(logits)


def _hearing(
    heard: dict[str, Hearing], task: Task, tokenizer: Tokenizer, context: AnswerContext, *, free: bool
) -> Hearing:
    assert free
    heard[task.id] = Hearing(task, tokenizer, context)
    return heard[task.id]


def opened(speaker: Speaker, shape: str = USUAL, dialect: Dialect = "native") -> Reasoner:
    """A reasoner of the bundle, with short answers. See `_opened`."""
    return _opened(speaker, SHAPES[shape], dialect)


def _opened(speaker: Speaker, shape: CallShape, dialect: Dialect) -> Reasoner:
    """Of the tokenizer that `speaker` has read already: to read and sort a vocabulary takes longer than six answers."""
    with patch.object(Tokenizer, "open", lambda _: speaker.tokenizer):
        return Reasoner(speaker.bundle, shape=shape, dialect=dialect, max_tokens=TOKENS)


def shown_to(clip: Clip, shown: Sequence[Pixels], start: int = 0) -> Clip:
    """`clip` with the frames `shown` behind the `start` that it has."""
    for number, pixels in enumerate(shown, start):
        clip.push(pixels, STEP_S * number)
    return clip


def said(clip: Clip, tasks: Sequence[str] | None = None) -> Spoken:
    """Answers as text, whose pieces must add up to them."""
    heard: dict[str, Hearing] = {}
    with patch("edge_sdk.reasoning.clip.reader_for", partial(_hearing, heard)):
        everything = list(clip.ask(tasks, free=True))
    answers = {each.task: each.text for each in everything if isinstance(each, Answer)}
    pieces = dict.fromkeys(answers, "")
    for each in everything:
        if isinstance(each, Piece):
            pieces[each.task] += each.text
    assert pieces == answers
    return {task: Said(reader.ids, np.stack(reader.logits)) for task, reader in heard.items()}


def together(reasoner: Reasoner) -> Spoken:
    """All six packed."""
    with shown_to(reasoner.begin(), SHOWN) as clip:
        return said(clip)


def forked(reasoner: Reasoner) -> Spoken:
    """One after the other behind the same clip, the first once more at the end."""
    found: Spoken = {}
    with shown_to(reasoner.begin(), SHOWN) as clip:
        for task in (*TASK_IDS, TASK_IDS[0]):
            found |= said(clip, [task])
    return found


def fresh(reasoner: Reasoner) -> Spoken:
    """Each of a clip of its own."""
    found: Spoken = {}
    for task in TASK_IDS:
        with shown_to(reasoner.begin(), SHOWN) as clip:
            found |= said(clip, [task])
    return found


def extended(reasoner: Reasoner) -> Spoken:
    """Of a clip that was asked in the middle, and went on."""
    with shown_to(reasoner.begin(), SHOWN[:4]) as clip:
        early = said(clip)
        later = said(shown_to(clip, SHOWN[4:], 4))
    assert tokens_of(early) != tokens_of(later), "what came after the early questions must matter"
    return later


def after_reset(reasoner: Reasoner) -> Spoken:
    """Of a clip in caches that another, longer one was asked in."""
    with shown_to(reasoner.begin(), pictures(9, seed=5)) as clip:
        other = said(clip)
        clip.reset()
        found = said(shown_to(clip, SHOWN))
    assert tokens_of(other) != tokens_of(found)
    return found


ORDERS: dict[str, Callable[[Reasoner], Spoken]] = {
    "forked: one by one behind one clip": forked,
    "fresh: a clip for each": fresh,
    "extended: asked after 4 frames, then at the end": extended,
    "reset: another clip before": after_reset,
}


def leaking(reasoner: Reasoner) -> Spoken:
    """As `together`, but all questions see the first token of the first one: what no comparison may let pass."""
    write = SlotTree.write_mask

    def leak(tree: SlotTree, first: int, count: int, mask: Mask) -> None:
        write(tree, first, count, mask)
        mask[max(0, tree.trunk - first) : count, tree.trunk] = True

    with patch.object(SlotTree, "write_mask", leak):
        return together(reasoner)


def transformers_answers(speaker: Speaker) -> Spoken:
    """transformers' six answers, each from a run of its own."""
    found = {task: transformers_answer(speaker, task, SHOWN, TOKENS) for task in TASK_IDS}
    for each in found.values():
        assert len(set(each.ids)) > TOKENS // 2, "an answer that repeats itself would prove little"
    assert len(set(tokens_of(found).values())) == len(TASK_IDS)
    return found


class Compared(NamedTuple):
    """How far two sets of answers agree; the error is the largest of a logit, read behind the same tokens."""

    tokens: int
    same_tokens: int
    max_error: float


def compared(found: Spoken, expected: Spoken) -> Compared:
    """`found` against `expected`, token for token."""
    assert found.keys() == expected.keys()
    both = [(found[task], expected[task]) for task in expected]
    return Compared(
        tokens=sum(max(len(ours.ids), len(theirs.ids)) for ours, theirs in both),
        same_tokens=sum(a == b for ours, theirs in both for a, b in zip(ours.ids, theirs.ids, strict=False)),
        max_error=max(_error(ours, theirs) for ours, theirs in both),
    )


def by_forms(speaker: Speaker, dialect: Dialect) -> tuple[dict[str, Answer], dict[str, Answer]]:
    """Answers read by their forms: the six together, and each alone of a clip of its own."""
    with _opened(speaker, WIDE, dialect) as reasoner:
        with shown_to(reasoner.begin(), SHOWN) as clip:
            packed = _answers(clip, TASK_IDS)
        alone: dict[str, Answer] = {}
        for task in TASK_IDS:
            with shown_to(reasoner.begin(), SHOWN) as clip:
                alone |= _answers(clip, [task])
    return packed, alone


def but_probability(answer: Answer) -> Answer:
    """What two readings of one answer must agree on exactly."""
    return msgspec.structs.replace(answer, probability=None, form_share=None)


def _answers(clip: Clip, tasks: Sequence[str]) -> dict[str, Answer]:
    return {each.task: each for each in clip.ask(tasks) if isinstance(each, Answer)}


def _probability(answer: Answer) -> float:
    assert answer.probability is not None
    return answer.probability


def tokens_of(spoken: Spoken) -> dict[str, tuple[int, ...]]:
    """The tokens of each answer."""
    return {task: each.ids for task, each in spoken.items()}


def _error(ours: Said, theirs: Said) -> float:
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(ours.ids, theirs.ids, strict=False))
    steps = 1 + sum(1 for _ in alike)
    return float(np.abs(ours.logits[:steps] - theirs.logits[:steps]).max())


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One way to six answers as text, beside transformers' six runs."""

    model: str
    dialect: Dialect
    compression: bool
    calls: str
    asked: str
    answers: int
    tokens: int
    same_tokens: int
    max_logit: float
    max_error: float


class FormRow(msgspec.Struct, frozen=True, kw_only=True):
    """Six answers by their forms, packed, beside the same asked alone; the error is a share of the probability."""

    model: str
    dialect: Dialect
    answers: int
    same_answers: int
    max_error: float


def rows(kind: str, speaker: Speaker, whole: Speaker) -> Iterator[Row]:
    """All ways of one model; `whole` is the same without compression."""
    for compression, each in ((True, speaker), (False, whole)):
        expected = transformers_answers(each)
        for dialect in DIALECTS:
            for calls, asked, found in _ways(each, dialect) if compression else _plain(each, dialect):
                result = compared(found, expected)
                yield Row(
                    model=kind,
                    dialect=dialect,
                    compression=compression,
                    calls=calls,
                    asked=asked,
                    answers=len(found),
                    max_logit=max(float(np.abs(answer.logits).max()) for answer in expected.values()),
                    **result._asdict(),
                )


def _plain(speaker: Speaker, dialect: Dialect, shape: str = USUAL) -> Iterator[tuple[str, str, Spoken]]:
    with opened(speaker, shape, dialect) as reasoner:
        yield shape, "packed", together(reasoner)


def _ways(speaker: Speaker, dialect: Dialect) -> Iterator[tuple[str, str, Spoken]]:
    for shape in SHAPES:
        yield from _plain(speaker, dialect, shape)
    with opened(speaker, USUAL, dialect) as reasoner:
        for name, order in ORDERS.items():
            yield USUAL, name, order(reasoner)
        yield USUAL, "packed, with a mask that leaks one token", leaking(reasoner)


def form_rows(kind: str, speaker: Speaker) -> Iterator[FormRow]:
    """Packed against alone, of one model."""
    for dialect in DIALECTS:
        packed, alone = by_forms(speaker, dialect)
        yield FormRow(
            model=kind,
            dialect=dialect,
            answers=len(packed),
            same_answers=sum(but_probability(packed[task]) == but_probability(alone[task]) for task in TASK_IDS),
            max_error=max(abs(_probability(packed[task]) / _probability(alone[task]) - 1) for task in TASK_IDS),
        )


def main(out: Path, vocabulary: Path) -> None:
    """Write `reasoning-equivalence.json` and `.md` to `out`, with the tokenizer in `vocabulary`."""
    watch, found, forms = Watch(), list[Row](), list[FormRow]()
    for kind in KINDS:
        with TemporaryDirectory() as name:
            folder = Path(name)
            speaker = make_speaker(folder / "toy", kind).with_vocabulary(vocabulary, folder / "real")
            for row in rows(kind, speaker, speaker.without_compression(folder / "whole")):
                found.append(row)
                print(row, flush=True)
            forms += form_rows(kind, speaker)
    what = "Six answers of tiny models, Qwen2.5's tokenizer, float32, ONNX Runtime: tokens against transformers"
    lines = [NOTE, "", *table(HEAD, map(_cells, found)), "", FORMS, "", *table(FORM_HEAD, map(_form_cells, forms))]
    write_measured(out, "reasoning-equivalence", what, watch, {"text": found, "forms": forms}, lines)


HEAD = "model | dialect | compression | tokens of a call | asked | answers | tokens | the same | largest logit | error"
NOTE = f"""Against six runs of transformers' `generate`, greedy, {TOKENS} tokens each, of CrashChat's own questions
about {FRAMES} frames. Two layers in tower and decoder, random weights; `merged`, `switchable`: two adapters of rank 4
with a projector each, against peft's own merge; `base`: one model. Frames are encoded and go in as they arrive, in
calls of so many tokens; `all at once`: the clip waits for the questions and goes in with them. The error is the largest
of a logit over all steps and the whole vocabulary. The rows with a mask that leaks are not the SDK but a fault, to show
that so small a one is seen."""
FORM_HEAD = "model | dialect | answers | the same | largest error of a probability, as its share"
FORMS = """Read by their forms (yes or no, time, interval, text), the six packed against each asked alone of a clip of
its own. The same: value, text, bounds, tokens taken in, and whether it abstains."""


def _cells(row: Row) -> tuple[object, ...]:
    return (
        row.model,
        row.dialect,
        "on" if row.compression else "off",
        row.calls,
        row.asked,
        row.answers,
        row.tokens,
        row.same_tokens,
        f"{row.max_logit:.2f}",
        f"{row.max_error:.1e}",
    )


def _form_cells(row: FormRow) -> tuple[object, ...]:
    return row.model, row.dialect, row.answers, row.same_answers, f"{row.max_error:.1e}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
