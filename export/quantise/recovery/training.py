"""Train LoRA matrices further beside a quantised base, so that together they answer like the exact model.

The loss is the KL divergence of next-token distributions from the exact model's, on the tokens of the exact model's
answers: distillation with soft targets (Hinton et al., arXiv:1503.02531) into the adapter of a quantised base, which
QLoRA (arXiv:2305.14314) showed to make up for 4 bits. The base is frozen, so a bundle's weights stay as measured. Every
answer has the same weight, whatever its length: the few digits of a time count as much as a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from edge_sdk.bundle.proof import AnswerChange
from edge_sdk.export.quantise.evidence import answer_change, joined
from edge_sdk.export.quantise.recipe import Recover
from edge_sdk.export.quantise.recovery.lesson import Lesson
from edge_sdk.export.quantise.recovery.whole_decoder import LayerPairs, WholeDecoder
from edge_sdk.export.state_file import save_state

_BETAS, _CLIP_NORM, _WARM_UP = (0.9, 0.98), 1.0, 0.05
_SAVE_EVERY = 25


@dataclass(frozen=True, eq=False)
class Recovery:
    """One adapter's run: the quantised `stored`, and `head [vocab, hidden]` of the exact model, both on one device."""

    stored: WholeDecoder
    head: Tensor
    recover: Recover

    def run(
        self,
        begun: Sequence[Mapping[str, tuple[Tensor, Tensor]]],
        lessons: Sequence[Path],
        saved: Path,
        identity: str,
        on_step: Callable[[int, float], None],
    ) -> LayerPairs:
        """Train a copy of `begun` on the files of `lessons`, `batch` of them per step; returns the trained matrices.

        `saved` is the file with the state of a run of this `identity`; a run resumes from it. `on_step` gets the number
        of steps done and the loss of the last step.
        """
        device = self.head.device
        pairs = [{name: (_copy(a, device), _copy(b, device)) for name, (a, b) in layer.items()} for layer in begun]
        trained = [matrix for layer in pairs for pair in layer.values() for matrix in pair]
        optimiser = torch.optim.AdamW(trained, self.recover.rate, betas=_BETAS, weight_decay=0.0)
        for step in range(_restored(saved, identity, trained, optimiser), self.recover.steps):
            optimiser.param_groups[0]["lr"] = self.recover.rate * share_of_rate(step, self.recover.steps)
            loss = self._step(pairs, [lessons[n] for n in drawn(self.recover, len(lessons), step)])
            torch.nn.utils.clip_grad_norm_(trained, _CLIP_NORM)
            optimiser.step()
            optimiser.zero_grad()
            if (step + 1) % _SAVE_EVERY == 0:
                _save(saved, identity, trained, optimiser, step + 1)
            on_step(step + 1, loss)
        return [{name: (a.detach().cpu(), b.detach().cpu()) for name, (a, b) in layer.items()} for layer in pairs]

    @torch.inference_mode()
    def change(self, pairs: LayerPairs, lessons: Sequence[Path]) -> AnswerChange:
        """How far the base with `pairs` is from the exact model on the answers of `lessons`."""
        device, parts = self.head.device, []
        moved = [{name: (a.to(device), b.to(device)) for name, (a, b) in layer.items()} for layer in pairs]
        for path in lessons:
            lesson = Lesson.load(path)
            found, exact = self._logits(lesson, moved)
            parts.append(answer_change(found.cpu().numpy(), exact.cpu().numpy()))
        return joined(parts)

    def _step(self, pairs: LayerPairs, paths: Sequence[Path]) -> float:
        total = 0.0
        for path in paths:
            lesson = Lesson.load(path)
            found, exact = (each.log_softmax(1) for each in self._logits(lesson, pairs))
            rows = functional.kl_div(found, exact, reduction="none", log_target=True).sum(1)
            loss = torch.stack([each.mean() for each in rows.split(lesson.lengths.tolist())]).mean() / len(paths)
            loss.backward()
            total += float(loss.detach())
        return total

    def _logits(self, lesson: Lesson, pairs: LayerPairs) -> tuple[Tensor, Tensor]:
        exact = functional.linear(lesson.states.to(self.head.device), self.head)
        return self.stored.logits(self.stored.states(lesson.tokens, pairs)), exact


def drawn(recover: Recover, count: int, step: int) -> Iterator[int]:
    """Numbers of the lessons, of `count`, that a step uses; each pass visits all lessons once in a new seeded order."""
    for place in range(step * recover.batch, (step + 1) * recover.batch):
        turn = torch.Generator().manual_seed(1_000_003 * recover.seed + place // count)
        yield int(torch.randperm(count, generator=turn)[place % count])


def share_of_rate(step: int, steps: int) -> float:
    """Share of the learning rate at a step: a linear warm-up, then half a cosine down to zero."""
    warm = max(1.0, _WARM_UP * steps)
    past = max(0.0, (step - warm) / max(1.0, steps - warm))
    return min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * past))


def _copy(matrix: Tensor, device: torch.device) -> Tensor:
    return matrix.detach().to(device, torch.float32, copy=True).contiguous().requires_grad_()


def _save(path: Path, identity: str, trained: Sequence[Tensor], optimiser: torch.optim.Optimizer, step: int) -> None:
    state = {"identity": identity, "step": step, "trained": list(trained), "optimiser": optimiser.state_dict()}
    save_state(path, state)


def _restored(path: Path, identity: str, trained: Sequence[Tensor], optimiser: torch.optim.Optimizer) -> int:
    """Restore the saved state; returns the next step, 0 where nothing was saved or the state is another run's."""
    if not path.is_file():
        return 0
    held = torch.load(path, map_location=trained[0].device, weights_only=True)
    if held["identity"] != identity:
        return 0
    with torch.no_grad():
        for matrix, value in zip(trained, held["trained"], strict=True):
            matrix.copy_(value)
    optimiser.load_state_dict(held["optimiser"])
    return int(held["step"])
