"""Ask the video LLM from a program about files and live events; the model runs in a process of its own.

The program's side is light: the model and its libraries are loaded only in the other process.
"""

from edge_sdk.explaining.clips import Explanation, Spoken, answers_of, ask_file, evidence_of, explain_file, tasks_of
from edge_sdk.explaining.live import LiveClip, history_settings
from edge_sdk.explaining.messages import Piece, ReasoningReport, Reply
from edge_sdk.explaining.process import ReasonerProcess
from edge_sdk.explaining.request import ClipRequest
from edge_sdk.explaining.settings import ReasonerSettings, language_of, profile_of
from edge_sdk.explaining.view import AnswersView
from edge_sdk.explaining.watching import EventExplainer, with_frames_kept

__all__ = [
    "AnswersView",
    "ClipRequest",
    "EventExplainer",
    "Explanation",
    "LiveClip",
    "Piece",
    "ReasonerProcess",
    "ReasonerSettings",
    "ReasoningReport",
    "Reply",
    "Spoken",
    "answers_of",
    "ask_file",
    "evidence_of",
    "explain_file",
    "history_settings",
    "language_of",
    "profile_of",
    "tasks_of",
    "with_frames_kept",
]
