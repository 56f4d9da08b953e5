"""Prompts against the reference: its template rendered by jinja, tokenised whole by Hugging Face's tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.export.tokenizer import tokenizer_json
from edge_sdk.hardware.numbers import QUESTION_TOKENS
from edge_sdk.reasoning import Prompt, PromptFrame, Tokenizer
from edge_sdk.tasks import TASKS, Task

# What the processor of VideoLLaMA3 renders for one user turn of a video with times and a text, written from its
# description: times rounded to one decimal, a comma between frames, a line break behind the last, no system prompt.
TEMPLATE = """
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- for part in message.content %}
        {%- if part.type == 'video' %}
            {%- for frame in range(part.times | length) %}
                {{- 'Time ' + part.times[frame] | round(1) | string + 's:' + '<image>' * part.tokens[frame] }}
                {{- '\n' if loop.last else ',' }}
            {%- endfor %}
        {%- else %}
            {{- part.text }}
        {%- endif %}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
by_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
Times = NDArray[np.float64]


@pytest.fixture(scope="module")
def tokenizer(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    file = tmp_path_factory.mktemp("qwen") / "tokenizer.json"
    file.write_text(tokenizer_json(shared_data / "qwen2.5-tokenizer"), encoding="utf-8")
    return Tokenizer.open(file)


@pytest.fixture(scope="module")
def hugging_face(shared_data: Path) -> Any:
    loaded = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(shared_data / "qwen2.5-tokenizer")
    loaded.add_tokens(["<image>", "<|stream_start|>", "<|stream_end|>"], special_tokens=True)
    return loaded


def reference_times(frames: int, fps: float = 10.0, start_s: float = 0.0) -> Times:
    """Times as the reference makes them, and thins them beyond 96 frames."""
    times = np.arange(start_s, start_s + frames / fps + 1 / fps, 1 / fps)[:frames]
    return times if frames <= 96 else times[np.linspace(0, frames - 1, 96, dtype=int)]


def rendered(times: Times, tokens: list[int], question: str) -> str:
    jinja2 = pytest.importorskip("jinja2")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    video = {"type": "video", "times": times, "tokens": tokens}
    content = [video, {"type": "text", "text": question}]
    turn = {"role": "user", "content": content}
    return str(environment.from_string(TEMPLATE).render(messages=[turn], add_generation_prompt=True))


def prompt_frames(times: Times, tokens: list[int]) -> list[PromptFrame]:
    return [PromptFrame(time_s=float(time), tokens=n) for time, n in zip(times, tokens, strict=True)]


@by_task
@pytest.mark.parametrize("eval_compat", [False, True])
def test_a_prompt_is_the_references(tokenizer: Tokenizer, hugging_face: Any, task: Task, eval_compat: bool) -> None:
    times = reference_times(96)
    tokens = [91] * 96
    asked = f"<video>\n{task.prompt}" if eval_compat else task.prompt
    text = rendered(times, tokens, asked)
    prompt = Prompt(tokenizer, eval_compat=eval_compat)
    assert prompt.text(prompt_frames(times, tokens), task.prompt) == text
    ids = prompt.whole(prompt_frames(times, tokens), task.prompt).tolist()
    assert ids == hugging_face(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize(
    "times",
    [
        reference_times(1),
        reference_times(300),
        reference_times(1100),
        reference_times(50, start_s=0.083),
        reference_times(20, start_s=0.05),
        reference_times(40, fps=3.0, start_s=-0.04),
    ],
    ids=["one frame", "30 s", "110 s", "offset", "ties", "3 Hz"],
)
def test_times_are_printed_as_the_reference_prints_them(tokenizer: Tokenizer, hugging_face: Any, times: Times) -> None:
    tokens = [1 + index % 5 for index in range(len(times))]
    text = rendered(times, tokens, "What happens?")
    prompt = Prompt(tokenizer)
    assert prompt.text(prompt_frames(times, tokens), "What happens?") == text
    ids = prompt.whole(prompt_frames(times, tokens), "What happens?").tolist()
    assert ids == hugging_face(text, add_special_tokens=False).input_ids


def test_token_costs(tokenizer: Tokenizer) -> None:
    prompt = Prompt(tokenizer)

    def stamp(time_s: float, first: bool = False) -> int:
        ids = prompt.frame(PromptFrame(time_s=time_s, tokens=1), first=first)
        return int((ids != tokenizer.control.image).sum())

    assert len(prompt.header()) == 3
    assert (stamp(0.0, first=True), stamp(0.1), stamp(9.9), stamp(10.0)) == (7, 8, 8, 9)
    assert len(prompt.question("")) == 1 + 5
    assert [sum(stamp(t, i == 0) for i, t in enumerate(reference_times(n))) for n in (96, 200)] == [767, 815]
    assert [len(prompt.question(task.prompt)) - 6 for task in TASKS] == [65, 132, 54, 246, 94, 124]
    assert sum(len(prompt.question(task.prompt)) for task in TASKS) == QUESTION_TOKENS
    marked = Prompt(tokenizer, eval_compat=True)
    assert [len(marked.question(t.prompt)) - len(prompt.question(t.prompt)) for t in TASKS] == [3] * 6


def test_yes_and_no_are_one_token_each(tokenizer: Tokenizer) -> None:
    assert (tokenizer.encode("Yes").tolist(), tokenizer.encode("No").tolist()) == ([9454], [2753])
