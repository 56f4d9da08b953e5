"""What is asked of the video LLM and what it says: prompts as token ids, and answers as text."""

from edge_sdk.reasoning.prompt import Prompt, PromptFrame, kept_frame
from edge_sdk.reasoning.text import CONTROL_TOKENS, IM_END, IM_START, IMAGE, Ids, TextStream, Tokenizer

__all__ = [
    "CONTROL_TOKENS",
    "IMAGE",
    "IM_END",
    "IM_START",
    "Ids",
    "Prompt",
    "PromptFrame",
    "TextStream",
    "Tokenizer",
    "kept_frame",
]
