"""The prompt on which VideoLLaMA3 was tuned, in pieces that can be built while frames arrive.

    <|im_start|>user
    Time 0.0s:<image>…<image>,Time 0.1s:<image>…<image>,…
    QUESTION<|im_end|>
    <|im_start|>assistant

(a line break at the end of each line, including the last).

The pieces are the header, each frame, and the question with the rest of the text. No token spans two pieces, because a
control token or a line break separates them; so the joined ids of the pieces are the ids of the whole text. As in
CrashChat's training and evaluation, there is no system prompt.

Form: chat template of VideoLLaMA3's processor (`videollama3/model/processor.py`), as CrashChat calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ConfigError
from edge_sdk.reasoning.text import IM_END, IM_START, IMAGE, Ids, Tokenizer
from edge_sdk.types import Value

EVALUATION_MARK = "<video>\n"


class PromptFrame(Value, frozen=True, kw_only=True):
    """One frame of a prompt: its time in seconds on the video's clock, and how many image tokens represent it."""

    time_s: float
    tokens: int

    def __post_init__(self) -> None:
        if not np.isfinite(self.time_s):
            raise ConfigError(f"the time of a frame must be a number of seconds, found {self.time_s}")
        if self.tokens < 1:
            raise ConfigError(f"a frame needs at least 1 image token, found {self.tokens}")


def kept_frame(time_s: float, keep: NDArray[np.bool_]) -> PromptFrame:
    """Return the frame after token compression: `keep` is bool `[tokens]`, True for the tokens that remain.

    Raises `ConfigError` if none remains.
    """
    return PromptFrame(time_s=time_s, tokens=int(np.count_nonzero(keep)))


class Prompt:
    """Builds prompts with one tokenizer.

    CrashChat was tuned on the bare question, but its evaluation put `<video>` and a line break before it. With
    `eval_compat` the prompt does the same, so that results can be compared with the published ones.
    """

    def __init__(self, tokenizer: Tokenizer, *, eval_compat: bool = False) -> None:
        self._tokenizer = tokenizer
        self._eval_compat = eval_compat
        encode, control = tokenizer.encode, tokenizer.control
        self._header = np.array([control.im_start, *encode("user\n")], np.int64)
        self._tail = np.array([control.im_end, *encode("\n"), control.im_start, *encode("assistant\n")], np.int64)

    def header(self) -> Ids:
        """Return the ids before the first frame, int64 `[n]`."""
        ids: Ids = self._header.copy()
        return ids

    def frame(self, frame: PromptFrame, *, first: bool) -> Ids:
        """Return the ids of one frame, int64 `[n]`; the last `frame.tokens` are placeholders for the picture."""
        stamp = self._tokenizer.encode(_stamp(frame.time_s, first))
        return np.concatenate([stamp, np.full(frame.tokens, self._tokenizer.control.image, np.int64)])

    def question(self, question: str) -> Ids:
        """Return the ids from the end of the last frame to the beginning of the answer, int64 `[n]`."""
        return np.concatenate([self._tokenizer.encode(self._asked(question)), self._tail])

    def whole(self, frames: Sequence[PromptFrame], question: str) -> Ids:
        """Return the ids of a whole prompt, int64 `[n]`. Raises `ConfigError` without a frame."""
        pieces = [self.frame(frame, first=index == 0) for index, frame in enumerate(_some(frames))]
        return np.concatenate([self._header, *pieces, self.question(question)])

    def text(self, frames: Sequence[PromptFrame], question: str) -> str:
        """Return a whole prompt as text, which a tokenizer that knows the control tokens encodes to the same ids.

        This holds unless the question itself spells a control token. Raises `ConfigError` without a frame.
        """
        shown = ((_stamp(f.time_s, index == 0), IMAGE * f.tokens) for index, f in enumerate(_some(frames)))
        body = "".join(chain.from_iterable(shown))
        return f"{IM_START}user\n{body}{self._asked(question)}{IM_END}\n{IM_START}assistant\n"

    def _asked(self, question: str) -> str:
        return f"\n{EVALUATION_MARK if self._eval_compat else ''}{question.strip()}"


def _stamp(time_s: float, first: bool) -> str:
    """Return the time stamp before a frame, rounded as in the reference: numpy rounds 0.05 to 0.0, Python to 0.1."""
    return f"{'' if first else ','}Time {float(np.round(time_s, 1))}s:"


def _some(frames: Sequence[PromptFrame]) -> Sequence[PromptFrame]:
    if not frames:
        raise ConfigError("a prompt needs at least one frame, found none")
    return frames
