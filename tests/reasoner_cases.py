"""Small speaking bundles of a checkpoint to ask questions of, and transformers' own answers to the same questions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from checkpoint_makers import merged_model, save, save_adapter, tune
from decoder_loop import lively
from language_bundles import Assembly, speaking_model
from toy_speaker import SHORT, SIDES, STEP_S
from toy_tokenizer import write_checkpoint_files

from edge_sdk.bundle import Bundle, rewrite
from edge_sdk.bundle.manifest_language import Compression
from edge_sdk.export.tokenizer import tokenizer_json
from edge_sdk.reasoning import Prompt, PromptFrame, Tokenizer
from edge_sdk.reasoning.patches import Pixels, normalised, patchify
from edge_sdk.runtime import Array
from edge_sdk.tasks import TASKS

SLOTS = (256, 1536)


class Said(NamedTuple):
    """An answer: its tokens without the one that ends it, and the logits `[steps, vocab]` that each was read from."""

    ids: tuple[int, ...]
    logits: Array


class Speaker(NamedTuple):
    """A bundle, and transformers' model of each of its adapters."""

    bundle: Bundle
    models: Mapping[str, Any]
    tokenizer: Tokenizer
    questions: Mapping[str, str]

    def model_of(self, task: str) -> Any:
        """The model that is asked `task`."""
        assert self.bundle.manifest.language is not None
        adapters = self.bundle.manifest.language.adapters
        return next(self.models[name] for name, adapter in adapters.items() if task in adapter.tasks)

    def with_vocabulary(self, vocabulary: Path, folder: Path) -> Speaker:
        """The same model with the real tokenizer, whose files lie in `vocabulary`, and CrashChat's own questions.

        Both vocabularies have their control tokens at the same ids, so the graphs stay as they are.
        """
        questions, text = true_questions(), tokenizer_json(vocabulary)
        files = {"language/tokenizer.json": text.encode(), "language/prompts.json": _prompts(questions)}
        bundle = rewrite(self.bundle, folder, extra_files=files)
        return Speaker(bundle, self.models, Tokenizer.open(bundle.path("language/tokenizer.json")), questions)

    def without_compression(self, folder: Path) -> Speaker:
        """The same, of a model that drops no token."""
        manifest = self.bundle.manifest
        assert manifest.language is not None
        language = msgspec.structs.replace(manifest.language, compression=None)
        shutil.copytree(self.bundle.folder, folder)
        changed = msgspec.structs.replace(manifest, language=language)
        (folder / "manifest.json").write_bytes(msgspec.json.encode(changed))
        return self._replace(bundle=Bundle.open(folder))


def make_speaker(folder: Path, kind: str) -> Speaker:
    """A speaking bundle of two adapters, "merged" or "switchable", or "base": one model for all tasks.

    It has the toy vocabulary and short questions; see `Speaker.with_vocabulary`.
    """
    model = talkative(speaking_model(seed=1))
    checkpoint, models, adapters = save(model, folder / "model"), {"base": model}, {}
    if kind != "base":
        tuned = {name: tune(model, rank=4, seed=seed) for seed, name in enumerate(("linguistic", "perception"), 1)}
        adapters = {name: save_adapter(each, folder / name) for name, each in tuned.items()}
        models = {name: merged_model(each) for name, each in tuned.items()}
    write_checkpoint_files(checkpoint)
    switchable = kind == "switchable"
    assembly = Assembly(checkpoint, folder / "parts", adapters, switchable=switchable, slots=SLOTS, sides=SIDES)
    place = assembly.folder / "language"
    (place / "tokenizer.json").write_text(tokenizer_json(checkpoint), encoding="utf-8")
    (place / "prompts.json").write_bytes(_prompts(SHORT))
    bundle = assembly.write_as(folder / "bundle", assembly.graphs, assembly.language)
    return Speaker(bundle, models, Tokenizer.open(place / "tokenizer.json"), SHORT)


def _prompts(questions: Mapping[str, str]) -> bytes:
    return json.dumps({task: {"text": text} for task, text in questions.items()}).encode()


@torch.no_grad()
def talkative(model: Any) -> Any:
    """`model` with larger matrices and embeddings still, so that its answers do not run in circles."""
    model.get_input_embeddings().weight.mul_(20)
    return lively(model, 1.5)


def true_questions() -> dict[str, str]:
    """CrashChat's own questions."""
    return {task.id: task.prompt for task in TASKS}


@torch.no_grad()
def transformers_answer(speaker: Speaker, task: str, shown: Sequence[Pixels], count: int) -> Said:
    """transformers' own greedy answer of `count` tokens at most to `task`, from a run of its own."""
    language = speaker.bundle.manifest.language
    assert language is not None
    patches = normalised(patchify(np.stack(shown), 14), (0.5,) * 3, (0.5,) * 3)
    kept = _kept(torch.from_numpy(patches), language.compression)
    frames = [PromptFrame(time_s=STEP_S * number, tokens=int(keep.sum())) for number, keep in enumerate(kept)]
    ids = torch.from_numpy(Prompt(speaker.tokenizer).whole(frames, speaker.questions[task]))[None]
    width, height = SIDES[0]
    end = list(language.end_tokens)
    found = speaker.model_of(task).generate(
        input_ids=ids,
        pixel_values_videos=torch.from_numpy(patches).flatten(0, 1),
        video_grid_thw=torch.tensor([[len(shown), height // 14, width // 14]]),
        video_merge_sizes=torch.tensor([2]),
        video_compression_mask=kept.flatten(),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=0,
        use_cache=True,
        return_dict_in_generate=True,
        output_logits=True,
    )
    tokens = found.sequences[0, ids.shape[1] :].tolist()
    return Said(
        tuple(token for token in tokens if token not in end), np.stack([step[0].numpy() for step in found.logits])
    )


def _kept(patches: torch.Tensor, compression: Compression | None) -> torch.Tensor:
    windows = patches.reshape(len(patches), -1, 4 * patches.shape[2])
    if compression is None:
        return torch.ones(windows.shape[:2], dtype=torch.bool)
    kept = torch.ones(windows.shape[:2], dtype=torch.bool)
    kept[1:] = (windows[1:] - windows[:-1]).abs().mean(2) * 255 > 0.1
    # a picture that stands still keeps its first token
    kept[kept.sum(1) == 0, 0] = True
    return kept
