"""What is shown to the video LLM, what it is asked, and what it says: pictures as patches, prompts as ids, text."""

from edge_sdk.reasoning.prompt import Prompt, PromptFrame, kept_frame
from edge_sdk.reasoning.text import CONTROL_TOKENS, IM_END, IM_START, IMAGE, Ids, TextStream, Tokenizer
from edge_sdk.reasoning.vision_input import TokenKeeper, VisionInput

__all__ = [
    "CONTROL_TOKENS",
    "IMAGE",
    "IM_END",
    "IM_START",
    "Ids",
    "Prompt",
    "PromptFrame",
    "TextStream",
    "TokenKeeper",
    "Tokenizer",
    "VisionInput",
    "kept_frame",
]
