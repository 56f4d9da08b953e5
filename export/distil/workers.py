"""One training step on several cores without a process group: threads, each with a replica of the model.

Replicas share the weights and own their gradients and batch statistics. Convolutions of this size scale better as two
single-threaded passes than as one pass over two threads, and do not stall when another program takes a core.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType

import torch
from torch import Tensor

from edge_sdk.export.graphs.masks import masks_of
from edge_sdk.export.graphs.student import Student

# (replica, which of the step's windows) -> the loss that was given to backward
Pass = Callable[[Student, Sequence[int]], float]
WORKERS = 2


@contextmanager
def single_threaded() -> Iterator[None]:
    """Limit torch to one thread per operator inside the context."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Workers:
    """`count` replicas of `model`, used as a context in which torch runs one thread per operator."""

    def __init__(self, model: Student, count: int) -> None:
        self.model = model
        self._replicas = [model, *(_replica(model) for _ in range(count - 1))]
        self._pool = ThreadPoolExecutor(count)
        self._threads = torch.get_num_threads()

    def __enter__(self) -> Workers:
        torch.set_num_threads(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._threads)

    def step(self, windows: int, micro: int, run: Pass, key: Sequence[int]) -> float:
        """Run forward and backward over window numbers `0 .. windows - 1`, `micro` at a time.

        Dropout masks are drawn from the seed `key` and the first number of each group. Leaves the summed gradients and
        the mean batch statistics in the model; returns the summed loss.
        """

        def passes(replica: Student, share: Sequence[Sequence[int]]) -> float:
            loss = 0.0
            for group in share:
                with masks_of(replica, [*key, group[0]]):
                    loss += run(replica, group)
            return loss

        groups = [list(range(windows))[first : first + micro] for first in range(0, windows, micro)]
        shares = [groups[worker :: len(self._replicas)] for worker in range(len(self._replicas))]
        futures = [
            self._pool.submit(passes, replica, share) for replica, share in zip(self._replicas, shares, strict=True)
        ]
        loss = sum(future.result() for future in futures)
        self._gather()
        return loss

    def _gather(self) -> None:
        for replica in self._replicas[1:]:
            for parameter, other in zip(self.model.parameters(), replica.parameters(), strict=True):
                if parameter.grad is not None and other.grad is not None:
                    parameter.grad.add_(other.grad)
                other.grad = None
        for buffers in zip(*(replica.buffers() for replica in self._replicas), strict=True):
            _average(buffers)


def _replica(model: Student) -> Student:
    replica = copy.deepcopy(model)
    for parameter, other in zip(model.parameters(), replica.parameters(), strict=True):
        other.data = parameter.data
    return replica


def _average(buffers: Sequence[Tensor]) -> None:
    if buffers[0].is_floating_point() and len(buffers) > 1:
        mean = torch.stack(list(buffers)).mean(0)
        for buffer in buffers:
            buffer.copy_(mean)
