"""LoRA as in CrashChat: the seven linears by their suffixes, the tower frozen, the projector trained in full.

The suffixes also match the tower's q, k and v. As in CrashChat's training, their LoRA is frozen at zero and saved all
the same; a reader must prove that it has no effect, and drop it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.tasks.scene_answers import scene_answers
from edge_sdk.export.layouts import LINEARS
from edge_sdk.export.mini.libraries import library
from edge_sdk.export.mini.material import Material
from edge_sdk.export.mini.questions import Pair
from edge_sdk.export.mini.recipe import Tuning
from edge_sdk.export.mini.windows import Shot
from edge_sdk.tasks import TASKS, AdapterKind, find_task

TARGETS = [public.rpartition(".")[2] for public in LINEARS.values()]


# Any: transformers' model and peft's wrapper of one.
def wrap(model: Any, tuning: Tuning) -> Any:
    """Wrap a copy of `model` in peft; only the decoder's LoRA and the projector require gradients."""
    peft = library("peft")
    config = peft.LoraConfig(
        r=tuning.rank,
        lora_alpha=tuning.alpha,
        lora_dropout=tuning.dropout,
        target_modules=TARGETS,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft reads an attribute of transformers that is deprecated.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        tuned = peft.get_peft_model(copy.deepcopy(model), config)
    for name, parameter in tuned.named_parameters():
        parameter.requires_grad_(".projector." in name or (".lora_" in name and ".vision_model." not in name))
    return tuned


def tasks_of(kind: AdapterKind) -> tuple[str, ...]:
    """The tasks that the adapter of this kind answers, in the order in which they are asked."""
    return tuple(task.id for task in TASKS if task.adapter == kind)


def trainable(kind: AdapterKind, clips: Sequence[Material]) -> list[Material]:
    """The clips that an adapter is tuned on: only those with a crash if no task of it has an answer without one.

    Raises `ConfigError` where none is left.
    """
    negative = any(find_task(task).negative for task in tasks_of(kind))
    kept = [clip for clip in clips if negative or clip.record.crash]
    if not kept:
        raise ConfigError(f"the {kind} adapter needs clips with a crash, found none")
    return kept


def draw_pairs(kind: AdapterKind, clip: Material, shot: Shot, count: int, random: np.random.Generator) -> list[Pair]:
    """Draw `count` of the adapter's questions, its first task included; returns those with a true answer for `shot`."""
    first, *others = tasks_of(kind)
    chosen = [first, *(others[n] for n in random.permutation(len(others))[: count - 1])]
    answers = scene_answers(clip.record, clip.truth, shot.window)
    return [(find_task(task).prompt, answers[task]) for task in chosen if task in answers]
