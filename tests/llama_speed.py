"""Six answers behind one prefix in 4 bits: this SDK on ONNX Runtime beside llama.cpp, the same weights and tokens.

A decoder of a 2B's width with random weights, each matrix rounded by this SDK to INT4 in blocks of 32, and the same
whole numbers and scales (these to float16) written as Q4_0. The clip is random words, as many as frames of 364x196 and
their times have, since llama.cpp takes in ids: vision is left out on both sides. Every answer has the median length of
its task in CrashChat's validation set and is read as greedy text.

    python tests/llama_speed.py OUT TOKENIZER --llama PYTHON --work DIR [--layers 28] [--frames 12]

PYTHON is the interpreter of an environment with llama-cpp-python and gguf, which this project needs nowhere else. DIR
keeps the weights between runs; with `--prepare` they are written and nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tokenizers
from llama_weights import TEXT, random_decoder, write_ours, write_theirs
from measured import table, write_measured
from numpy.typing import NDArray
from reasoning_speed import HEIGHT, LENGTHS, STEP_S, WIDTH

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.bundle.manifest import Graph
from edge_sdk.export.tokenizer import tokenizer_json
from edge_sdk.reasoning import AnswerContext, Prompt, PromptFrame, Tokenizer, reader_for
from edge_sdk.reasoning.asking import Branch, Conversation
from edge_sdk.reasoning.cache import CallShape, Prefix
from edge_sdk.reasoning.embedding import EmbeddingTable
from edge_sdk.reasoning.times import Stopwatch
from edge_sdk.runtime import SessionOptions
from edge_sdk.runtimes.ort import OrtRuntime
from edge_sdk.tasks import TASKS

NAME = "reasoning-llama"
# Random words of the vocabulary's plain part.
_WORDS = 151_643


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What both sides do: ids of the clip and of each question, and how many tokens each answer has."""

    sizes: dict[str, Any]
    slots: int
    threads: int
    rounds: int
    ubatch: int
    clip: list[int]
    questions: list[list[int]]
    lengths: list[int]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One round: the clip, then six questions and their answers together, then the same one after the other."""

    name: str
    clip_s: float
    questions_s: float
    steps_s: float
    apart_s: float
    calls: int
    apart_calls: int
    tokens: list[list[int]]
    apart_equal: bool

    @property
    def together_s(self) -> float:
        """Six answers behind a clip that is there."""
        return self.questions_s + self.steps_s


class Ours:
    """The decoder of `folder` in this SDK, asked as a reasoner asks it."""

    def __init__(self, folder: Path, graph: Graph, tokenizer: Tokenizer, task: Task) -> None:
        session = OrtRuntime().open(folder / graph.file, graph, SessionOptions(threads=task.threads))
        self._prefix = Prefix(session, graph.state, shape=CallShape())
        rows = np.memmap(folder / "embed_tokens.bin", np.float16, mode="r", shape=(TEXT.vocab, TEXT.hidden))
        self._table, self._tokenizer, self._task = EmbeddingTable(rows), tokenizer, task

    def run(self) -> Run:
        """One round."""
        prefix, task = self._prefix, self._task
        prefix.reset()
        begun_s = time.perf_counter()
        prefix.append(self._table.rows(np.array(task.clip, np.int64)))
        clip_s, calls = time.perf_counter(), prefix.calls
        watch = Stopwatch()
        together = self._answers(range(len(TASKS)), watch)
        together_s, together_calls = time.perf_counter(), prefix.calls
        apart = [self._answers([number], Stopwatch())[0] for number in range(len(TASKS))]
        return Run(
            name="float32 cache",
            clip_s=clip_s - begun_s,
            questions_s=watch.ms("questions") / 1e3,
            steps_s=together_s - clip_s - watch.ms("questions") / 1e3,
            apart_s=time.perf_counter() - together_s,
            calls=together_calls - calls,
            apart_calls=prefix.calls - together_calls,
            tokens=together,
            apart_equal=together == apart,
        )

    def _answers(self, numbers: Sequence[int], watch: Stopwatch) -> list[list[int]]:
        branches = [self._branch(number) for number in numbers]
        talk = Conversation(branches, self._table, lambda: False, watch)
        for _ in talk.speak():
            pass
        self._prefix.forget_branches()
        return [list(branch.reader.ids) for branch in branches]

    def _branch(self, number: int) -> Branch:
        task, question = TASKS[number], np.array(self._task.questions[number], np.int64)
        context = AnswerContext(first_s=0.0, last_s=9.5, end_tokens=(), max_tokens=self._task.lengths[number])
        reader = reader_for(task, self._tokenizer, context, free=True)
        return Branch(prefix=self._prefix, reader=reader, question=question, task=task.id)


def make_task(tokenizer: Tokenizer, frames: int, sizes: dict[str, Any], threads: int, rounds: int) -> Task:
    """As many words as a clip of `frames` has tokens, and the six questions."""
    prompt, tokens = Prompt(tokenizer), WIDTH * HEIGHT // 28**2
    shown = [PromptFrame(time_s=STEP_S * number, tokens=tokens) for number in range(frames)]
    questions = [prompt.question(task.prompt).tolist() for task in TASKS]
    clip = len(prompt.header()) + sum(len(prompt.frame(each, first=not at)) for at, each in enumerate(shown))
    ids: NDArray[np.int64] = np.random.default_rng(0).integers(0, _WORDS, clip)
    needed = clip + sum(map(len, questions)) + sum(LENGTHS.values())
    return Task(
        sizes=sizes,
        slots=next(slots for slots in (2048, 4096, 10_752) if slots >= needed),
        threads=threads,
        rounds=rounds,
        ubatch=512,
        clip=ids.tolist(),
        questions=questions,
        lengths=[LENGTHS[task.id] for task in TASKS],
    )


def best(runs: Sequence[Run]) -> Run:
    """The round whose answers together took the median time; of an even number the faster of the middle ones."""
    return sorted(runs, key=lambda run: run.together_s)[(len(runs) - 1) // 2]


def lines_of(ours: Sequence[Run], theirs: Sequence[Run]) -> list[str]:
    """Markdown: medians, and theirs over ours."""
    base, names = best(ours), list(dict.fromkeys(run.name for run in theirs))
    rows = [["this SDK, INT4 in blocks of 32, float32 cache", *_row(base, base)]]
    rows += [[f"llama.cpp, Q4_0, {name}", *_row(best([r for r in theirs if r.name == name]), base)] for name in names]
    return table(HEAD, rows)


def _row(run: Run, base: Run) -> list[object]:
    whole_s, base_s = run.clip_s + run.together_s, base.clip_s + base.together_s
    words = [
        pair for mine, other in zip(run.tokens, base.tokens, strict=True) for pair in zip(mine, other, strict=True)
    ]
    first = sum(mine[0] == other[0] for mine, other in zip(run.tokens, base.tokens, strict=True))
    return [
        f"{run.clip_s:.2f}",
        f"{run.questions_s:.2f}",
        f"{run.steps_s:.2f}",
        f"{run.together_s:.2f}",
        f"{base.together_s / run.together_s:.2f}",
        f"{run.apart_s:.2f}",
        f"{base.together_s / run.apart_s:.2f}",
        f"{whole_s:.2f}",
        f"{base_s / whole_s:.2f}",
        run.calls,
        run.apart_calls,
        f"{first} of {len(base.tokens)}, {sum(one == other for one, other in words)} of {len(words)}",
    ]


HEAD = (
    "way|clip s|questions s|steps s|six answers s|ours over it|one after the other s|ours, packed, over it|"
    "clip and answers s|ours over it|calls packed|calls apart|equal first tokens, all"
)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--llama", required=True, help="interpreter with llama-cpp-python and gguf")
    parser.add_argument(
        "--backends", type=Path, help="folder of ggml's libraries, if llama-cpp-python has none built in"
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prepare", action="store_true", help="write the weights and stop")
    parser.add_argument("--alone", action="store_true", help="this SDK alone, printed and not written")
    chosen = parser.parse_args()
    weights, watch = random_decoder(chosen.layers), Watch()
    tokenizer = _tokenizer(chosen.tokenizer)
    sizes = msgspec.structs.asdict(weights.config.text)
    task = make_task(tokenizer, chosen.frames, sizes, chosen.threads, chosen.rounds)
    graph = write_ours(weights, chosen.work / "ours", task.slots)
    theirs = chosen.work / "theirs"
    side = [chosen.llama, str(Path(__file__).with_name("llama_side.py")), str(theirs)]
    side += ["--backends", str(chosen.backends)] if chosen.backends else []
    write_theirs(chosen.work / "ours", theirs)
    (theirs / "task.json").write_bytes(msgspec.json.encode(task))
    if chosen.prepare:
        subprocess.run([*side, "--write"], check=True)
        return
    mine = Ours(chosen.work / "ours", graph, tokenizer, task)
    ours = [mine.run() for _ in range(chosen.rounds)]
    if chosen.alone:
        print("\n".join(table(HEAD, [["this SDK", *_row(run, run)] for run in ours])))
        return
    del mine
    said = json.loads(subprocess.run(side, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    found = msgspec.convert(said["runs"], list[Run])
    what = (
        f"Six answers behind a clip of {len(task.clip)} tokens ({chosen.frames} frames of {WIDTH}x{HEIGHT}) in 4 bits: "
        f"VideoLLaMA3-2B's decoder widths, {chosen.layers} layers, {task.slots} slots, {chosen.threads} threads"
    )
    lines = [
        *lines_of(ours, found),
        "",
        f"llama-cpp-python {said['version']}; {said['system'].strip(' |')}.",
        f"The median of {chosen.rounds} rounds on each side, of two the faster. `Six answers` follow the clip:",
        "all questions as one growth, then steps of every answer that is not finished; llama.cpp takes them as six",
        "sequences of one batch over a shared cache. `Calls` read the weights once each. Both sides round activations",
        "to 8 bits, each in its own way, so that answers of random weights part at the first near tie, and stay apart.",
    ]
    kept = {"ours": ours, "theirs": found, "llama_cpp_python": said["version"], "system": said["system"]}
    write_measured(chosen.out, NAME, what, watch, kept, lines)
    print("\n".join(lines))


def _tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(tokenizer_json(folder)))


if __name__ == "__main__":
    main()
