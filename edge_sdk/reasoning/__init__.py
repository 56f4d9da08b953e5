"""Input and output of the video LLM: pictures as patches, prompts as token ids, and answers read from logits."""

from edge_sdk.reasoning.answer import Answer, AnswerContext, AnswerReader, Growth
from edge_sdk.reasoning.forms import reader_for
from edge_sdk.reasoning.prompt import Prompt, PromptFrame, kept_frame
from edge_sdk.reasoning.text import CONTROL_TOKENS, ControlTokens, Ids, TextStream, Tokenizer
from edge_sdk.reasoning.vision_input import TokenKeeper, VisionInput

__all__ = [
    "Answer",
    "AnswerContext",
    "AnswerReader",
    "CONTROL_TOKENS",
    "ControlTokens",
    "Growth",
    "Ids",
    "Prompt",
    "PromptFrame",
    "TextStream",
    "TokenKeeper",
    "Tokenizer",
    "VisionInput",
    "kept_frame",
    "reader_for",
]
