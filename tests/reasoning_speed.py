"""Six answers about one clip: this SDK beside transformers, with the same weights, pictures and numbers of tokens.

A 2B cut down to a few layers, float32, one adapter, random weights; every answer has the median length of its task in
CrashChat's validation set and never ends early. Pictures have the model's size already, and transformers is given them
as patches. As a script it writes the results: `python tests/reasoning_speed.py OUT TOKENIZER`, TOKENIZER being a folder
with Qwen2.5's tokenizer files. It wants two cores to itself, 12 GB of memory and 8 GB of disk in TMPDIR.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import torch
from checkpoint_makers import save, wide_model
from language_bundles import VOCABULARY, Assembly
from measured import table, write_measured

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.bundle import Bundle, open_bundle, write_bundle
from edge_sdk.export.tokenizer import tokenizer_json
from edge_sdk.reasoning import Prompt, PromptFrame, Tokenizer
from edge_sdk.reasoning.answer import Answer
from edge_sdk.reasoning.clip import Clip
from edge_sdk.reasoning.patches import Pixels, normalised, patchify
from edge_sdk.reasoning.reasoner import Reasoner
from edge_sdk.runtime import SessionOptions
from edge_sdk.tasks import TASKS

# Median tokens of CrashChat's validation answers by task, the end token among them.
LENGTHS = {
    "recognition": 2,
    "description": 4,
    "cause": 9,
    "prevention": 31,
    "crash_interval": 10,
    "pre_crash_time": 5,
}
WIDTH, HEIGHT, STEP_S = 364, 196, 0.1
NAME = "reasoning"
# Frames that fit into each cache with six questions and answers.
SLOTS = {28: 4096, 96: 10_752}

Clock = Callable[[], float]
# Of one thread beside other work the processor's time says more.
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "processor": time.process_time}


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way to six answers. `after_s` begins when the last frame is handed over; `first_s` ends with the first
    answer, `questions_s` when all questions are in the decoder. `weight_reads` are runs of the decoder
    for questions and answers; each of six runs takes in the clip as well.
    """

    name: str
    whole_s: float
    after_s: float
    first_s: float | None = None
    questions_s: float | None = None
    weight_reads: int
    steps: int
    equal_answers: int | None = None


def make_bundle(folder: Path, layers: int, slots: int, tokenizer: Path) -> tuple[Any, Bundle]:
    """transformers' model, and a bundle of the same weights."""
    model = wide_model("2b", layers=layers, vocabulary=VOCABULARY)
    checkpoint = save(model, folder / "checkpoint")
    for file in tokenizer.iterdir():
        shutil.copy(file, checkpoint)
    parts = Assembly(checkpoint, folder / "parts", slots=(slots,), sides=((WIDTH, HEIGHT), (WIDTH, HEIGHT)))
    place = parts.folder / "language"
    (place / "tokenizer.json").write_text(tokenizer_json(checkpoint), encoding="utf-8")
    (place / "prompts.json").write_text(json.dumps({task.id: {"text": task.prompt} for task in TASKS}))
    files: dict[str, Path | bytes] = {f"language/{file.name}": file for file in place.iterdir()}
    bundle = write_bundle(
        folder / "bundle",
        name=NAME,
        version="1",
        graphs=parts.graphs,
        files=files,
        language=parts.language,
        link=True,
    )
    return model, bundle


def write_watching(bundle: Bundle, out: Path) -> Bundle:
    """`bundle` with the demo's student and clip beside it, for what watches and answers at once."""
    demo, manifest = open_bundle(), bundle.manifest
    own = {name: graph for name, graph in demo.manifest.graphs.items() if not _of_language(graph.file)}
    kept = [path for path in demo.manifest.files if not _of_language(path)]
    return write_bundle(
        out,
        name=NAME,
        version="1",
        graphs=manifest.graphs | own,
        files={path: each.folder / path for each, paths in ((bundle, manifest.files), (demo, kept)) for path in paths},
        language=manifest.language,
        student=demo.manifest.student,
        demo=demo.manifest.demo,
        link=True,
    )


def _of_language(path: str) -> bool:
    """Whether a file of a bundle belongs to its video LLM, and not to its student."""
    return path.startswith("language/")


def pictures(count: int) -> list[Pixels]:
    """Random pictures, of which compression drops nothing."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(count)]


class Transformers:
    """transformers' model asked in two ways, greedily."""

    def __init__(self, model: Any, tokenizer: Tokenizer, shown: Sequence[Pixels], clock: Clock) -> None:
        self._model, self._prompt, self._clock = model, Prompt(tokenizer), clock
        tokens = WIDTH * HEIGHT // 28**2
        self._frames = [PromptFrame(time_s=STEP_S * number, tokens=tokens) for number in range(len(shown))]
        patches = torch.from_numpy(normalised(patchify(np.stack(shown), 14), (0.5,) * 3, (0.5,) * 3))
        self._video = {
            "pixel_values_videos": patches.flatten(0, 1),
            "video_grid_thw": torch.tensor([[len(shown), HEIGHT // 14, WIDTH // 14]]),
            "video_merge_sizes": torch.tensor([2]),
            "video_compression_mask": torch.ones(len(shown) * tokens, dtype=torch.bool),
        }

    @torch.inference_mode()
    def six_runs(self) -> tuple[Way, dict[str, list[int]]]:
        """A whole run for each question, as the reference asks them."""
        begun_s, found = self._clock(), {}
        for task in TASKS:
            ids = torch.from_numpy(self._prompt.whole(self._frames, task.prompt))[None]
            most = LENGTHS[task.id]
            generated = self._model.generate(
                input_ids=ids,
                **self._video,
                max_new_tokens=most,
                min_new_tokens=most,
                do_sample=False,
                pad_token_id=0,
                use_cache=True,
            )
            found[task.id] = generated[0, ids.shape[1] :].tolist()
        spent_s = self._clock() - begun_s
        steps = sum(LENGTHS.values()) - len(TASKS)
        return Way(
            name="transformers, six runs",
            whole_s=spent_s,
            after_s=spent_s,
            weight_reads=steps + len(TASKS),
            steps=steps,
        ), found

    @torch.inference_mode()
    def kept_prefix(self) -> tuple[Way, dict[str, list[int]]]:
        """The clip once, its cache kept and handed to six questions in one batch; the head sees last tokens alone."""
        begun_s = self._clock()
        frames = [self._prompt.frame(frame, first=not index) for index, frame in enumerate(self._frames)]
        ids = torch.from_numpy(np.concatenate([self._prompt.header(), *frames]))[None]
        kept = self._model.model(input_ids=ids, **self._video, use_cache=True).past_key_values
        questions = [torch.from_numpy(self._prompt.question(task.prompt)) for task in TASKS]
        longest, clip = max(map(len, questions)), ids.shape[1]
        rows = torch.stack([torch.nn.functional.pad(each, (longest - len(each), 0)) for each in questions])
        real = torch.stack([torch.arange(longest) >= longest - len(each) for each in questions])
        seen = torch.cat([torch.ones(len(TASKS), clip, dtype=torch.bool), real], 1)
        positions = (clip + real.cumsum(1) - 1).clamp(min=0)
        kept.batch_repeat_interleave(len(TASKS))
        said = [self._next(rows, seen, positions, kept)]
        questions_s = self._clock() - begun_s
        while len(said) < max(LENGTHS.values()):
            seen = torch.cat([seen, torch.ones(len(TASKS), 1, dtype=torch.bool)], 1)
            positions = positions[:, -1:] + 1
            said.append(self._next(said[-1][:, None], seen, positions, kept))
        spent_s = self._clock() - begun_s
        tokens = torch.stack(said, 1).tolist()
        found = {task.id: own[: LENGTHS[task.id]] for task, own in zip(TASKS, tokens, strict=True)}
        return Way(
            name="transformers, prefix kept, questions batched",
            whole_s=spent_s,
            after_s=spent_s,
            questions_s=questions_s,
            weight_reads=len(said),
            steps=len(said) - 1,
        ), found

    def _next(self, ids: torch.Tensor, seen: torch.Tensor, positions: torch.Tensor, kept: Any) -> torch.Tensor:
        hidden = self._model.model.language_model(
            inputs_embeds=self._model.get_input_embeddings()(ids),
            attention_mask=seen,
            position_ids=positions,
            past_key_values=kept,
            use_cache=True,
        ).last_hidden_state
        found: torch.Tensor = self._model.lm_head(hidden[:, -1]).argmax(-1)
        return found


def streamed(reasoner: Reasoner, shown: Sequence[Pixels], clock: Clock) -> Way:
    """Six questions together, answered by their forms."""
    runs: list[float] = []
    with reasoner.begin(on_chunk=lambda: runs.append(clock())) as clip:
        return _together("this SDK, answers by their forms", clip, shown, runs, clock, free=False)[0]


def ours(reasoner: Reasoner, shown: Sequence[Pixels], clock: Clock) -> tuple[list[Way], dict[str, str]]:
    """Six questions together, as text and by their forms; then the same clip asked one by one."""
    formed, runs = streamed(reasoner, shown, clock), list[float]()
    with reasoner.begin(on_chunk=lambda: runs.append(clock())) as clip:
        text, answers = _together("this SDK, answers as text", clip, shown, runs, clock, free=True)
        before, begun_s = clip.timings, clock()
        for task in reasoner.tasks:
            list(clip.ask([task], free=True))
        spent_s, now = clock() - begun_s, clip.timings
    apart = Way(
        name="this SDK, prefix kept, one question after the other",
        whole_s=text.whole_s - text.after_s + spent_s,
        after_s=spent_s,
        weight_reads=now.weight_reads - before.weight_reads,
        steps=now.steps - before.steps,
    )
    return [text, formed, apart], answers


def _together(
    name: str, clip: Clip, shown: Sequence[Pixels], runs: list[float], clock: Clock, *, free: bool
) -> tuple[Way, dict[str, str]]:
    """`runs` are the moments at which runs of a graph ended."""
    begun_s = last_s = clock()
    for number, pixels in enumerate(shown):
        last_s = clock()
        clip.push(pixels, STEP_S * number)
    asked, moments, answers = len(runs), list[float](), dict[str, str]()
    for each in clip.ask(free=free):
        if isinstance(each, Answer):
            moments.append(clock())
            answers[each.task] = each.text
    calls, steps = len(runs) - asked, clip.timings.steps
    return Way(
        name=name,
        whole_s=moments[-1] - begun_s,
        after_s=moments[-1] - last_s,
        first_s=moments[0] - last_s,
        questions_s=runs[asked + calls - steps - 1] - last_s,
        weight_reads=calls,
        steps=steps,
    ), answers


def measure(
    folder: Path, layers: int, frames: int, tokenizer_folder: Path, threads: int, clock: Clock, *, alone: bool
) -> list[Way]:
    """Every way, one after the other, or this SDK's own way `alone`; `folder` takes 8 GB."""
    torch.set_num_threads(threads)
    slots = next(slots for most, slots in SLOTS.items() if frames <= most)
    model, bundle = make_bundle(folder, layers, slots, tokenizer_folder)
    shown = pictures(frames)
    tokenizer = Tokenizer.open(bundle.path("language/tokenizer.json"))
    with Reasoner(bundle, options=SessionOptions(threads=threads), dialect="native", max_tokens=LENGTHS) as reasoner:
        with reasoner.begin() as clip:
            clip.push(shown[0], 0.0)
            list(clip.ask(["recognition"]))
        if alone:
            return [streamed(reasoner, shown, clock)]
        found, texts = ours(reasoner, shown, clock)
    theirs = Transformers(model, tokenizer, shown, clock)
    for way, tokens in (theirs.kept_prefix(), theirs.six_runs()):
        equal = sum(tokenizer.decode(tokens[task]) == text for task, text in texts.items())
        found.append(msgspec.structs.replace(way, equal_answers=equal))
    return found


def _rows(ways: Sequence[Way]) -> list[list[object]]:
    base = ways[0]

    def share(seconds: float | None) -> str:
        return "" if seconds is None else f"{seconds:.2f} ({100 * seconds / base.whole_s:.1f} %)"

    return [
        [
            way.name,
            f"{way.whole_s:.2f}",
            f"{way.whole_s / base.whole_s:.2f}",
            share(way.first_s),
            share(way.questions_s),
            f"{way.after_s:.2f}",
            f"{way.after_s / base.after_s:.2f}",
            way.steps,
            way.weight_reads,
            "" if way.equal_answers is None else f"{way.equal_answers} of {len(TASKS)}",
        ]
        for way in ways
    ]


HEAD = (
    "way|whole s|over ours|first answer s|questions s|after last frame s|over ours|decode steps|decoder runs|"
    "equal answers"
)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--bundle", type=Path, help="write the bundle here, with the demo's student, and stop")
    parser.add_argument("--alone", action="store_true", help="this SDK alone, by the forms of the answers")
    chosen = parser.parse_args()
    watch = Watch()
    with TemporaryDirectory() as name:
        if chosen.bundle:
            slots = next(slots for most, slots in SLOTS.items() if chosen.frames <= most)
            write_watching(make_bundle(Path(name), chosen.layers, slots, chosen.tokenizer)[1], chosen.bundle)
            return
        ways = measure(
            Path(name),
            chosen.layers,
            chosen.frames,
            chosen.tokenizer,
            chosen.threads,
            CLOCKS[chosen.clock],
            alone=chosen.alone,
        )
    what = (
        f"Six answers about one clip of {chosen.frames} frames of {WIDTH}x{HEIGHT}: VideoLLaMA3-2B's widths, "
        f"{chosen.layers} layers in tower and decoder, float32, {chosen.threads} threads, {chosen.clock} time"
    )
    lines = [
        *table(HEAD, _rows(ways)),
        "",
        "The clip is encoded and prefilled as its frames come; what is `after last frame` remains when the last one is",
        "handed over, that frame's own encoding among it; transformers takes a clip whole. Percentages are of the",
        "first way's whole time. Answers are compared with those of the first way. Each of the six runs is",
        "transformers' own `generate`, which computes the head for every token of the prompt: of a run's",
        "multiplications half with 2 layers, 22 % with 8, 7 % in a whole model (12 frames). The batched way computes",
        "it for last tokens alone, as this SDK does.",
    ]
    write_measured(
        chosen.out,
        f"{NAME}-streamed" if chosen.alone else NAME,
        what,
        watch,
        [msgspec.structs.asdict(way) for way in ways],
        lines,
    )


if __name__ == "__main__":
    main()
