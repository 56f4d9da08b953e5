"""Asking the video LLM from a program: whose frames, in a process of its own, and what the answers say.

The program's side is light; what answers is loaded in the other process alone.
"""

from edge_sdk.explaining.clips import Explanation, Spoken, answers_of, ask_file, explain_file, tasks_of
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
    "explain_file",
    "history_settings",
    "language_of",
    "profile_of",
    "tasks_of",
    "with_frames_kept",
]
