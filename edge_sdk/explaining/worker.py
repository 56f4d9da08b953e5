"""The process that holds the sessions and answers: `main` gets the file descriptor of its end of the channel.

One thread works. A second only listens, so that a dropped clip is noticed during work, and so that the end of the
connection, which means the end of the parent, ends this process at any point. A third reports that the process is alive
and how far the work has come, because a run of a graph may never end. An error of this SDK ends only the request that
caused it; any other error ends the process, because it leaves an unknown state.
"""

from __future__ import annotations

import math
import os
import queue
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn

import msgspec
import numpy as np

from edge_sdk.errors import Cancelled, DeviceLostError, EdgeError, RuntimeFailure
from edge_sdk.explaining.channel import Channel
from edge_sdk.explaining.limits import be_patient, resident_mb
from edge_sdk.explaining.messages import (
    Ask,
    Beat,
    Begin,
    Drop,
    Failed,
    Finished,
    Open,
    Opened,
    Parcel,
    Picture,
    Said,
    Taken,
)

if TYPE_CHECKING:
    from edge_sdk.explaining.answering import Answering

BEAT_S = 1.0
# How runtimes describe a failed allocation.
_NO_MEMORY = ("bad_alloc", "Failed to allocate", "out of memory", "OutOfMemory")


class Worker:
    """The work of one process, from its first message to the end of the connection."""

    def __init__(self, channel: Channel, opening: Open) -> None:
        self._channel, self._opening = channel, opening
        # Each message with its arrival time on the monotonic clock.
        self._inbox: queue.SimpleQueue[tuple[Parcel, float]] = queue.SimpleQueue()
        # Requests are numbered in order, so all up to this one are over.
        self._dropped = 0
        # The request being worked on, 0 for none, and the number of its pictures so far.
        self._job = self._pictures = 0
        # The request of the last question, and the time after which no more of its pictures are taken in.
        self._until: tuple[int, float] = (0, math.inf)
        # Steps of work so far, and whether there is work.
        self._steps, self._working = 0, False

    def run(self) -> NoReturn:
        """Open the bundle, then work until the process ends."""
        for each in (self._listen, self._beat):
            threading.Thread(target=each, daemon=True).start()
        answers = self._open()
        self._channel.send(Opened(memory_mb=answers.memory_mb))
        while True:
            parcel, arrived_s = self._inbox.get()
            self._steps, self._working = self._steps + 1, True
            self._work(answers, parcel, arrived_s)
            self._working = False

    def _open(self) -> Answering:
        try:
            # Imported here because its packages are heavy, and the process must send beats while they load.
            from edge_sdk.explaining.answering import Answering

            return Answering(self._opening, self._check)
        except MemoryError as error:
            self._leave(RuntimeFailure(self._no_memory()), error)
        except EdgeError as error:
            self._leave(self._explained(error), error)

    def _work(self, answers: Answering, parcel: Parcel, arrived_s: float) -> None:
        """Handle a message; an error of this SDK ends only its request."""
        try:
            self._handle(answers, parcel, arrived_s)
        except MemoryError:
            self._fail(self._job, RuntimeFailure(self._no_memory()))
            raise
        except DeviceLostError as error:
            self._leave(error, error)
        except EdgeError as error:
            job, self._job = self._job, 0
            answers.end()
            if not isinstance(error, Cancelled):
                self._fail(job, self._explained(error))

    def _handle(self, answers: Answering, parcel: Parcel, arrived_s: float) -> None:
        message = parcel.message
        if isinstance(message, Begin):
            self._job, self._pictures = message.job, 0
            answers.begin(message)
        elif isinstance(message, Drop):
            self._job = 0
            answers.end()
        elif isinstance(message, Picture) and message.job == self._job:
            if not (self._pictures and self._late()):
                pixels = np.frombuffer(parcel.data, np.uint8).reshape(message.height, message.width, 3)
                answers.push(pixels, message.time_s)
                self._pictures += 1
            self._channel.send(Taken(job=message.job))
        elif isinstance(message, Ask) and message.job == self._job:
            self._ask(answers, message, arrived_s)

    def _ask(self, answers: Answering, message: Ask, arrived_s: float) -> None:
        """Answer within the rest of the deadline, which counts from the arrival of the question."""
        if message.deadline_s is not None:
            left_s = max(0.0, arrived_s + message.deadline_s - time.monotonic())
            message = msgspec.structs.replace(message, deadline_s=left_s)
        for said in answers.ask(message):
            self._check()
            self._channel.send(Said(job=message.job, said=said))
        if self._until[0] == message.job:
            self._until = (0, math.inf)
        self._channel.send(Finished(job=message.job, report=answers.report(resident_mb())))

    def _late(self) -> bool:
        """Return whether the current request has been asked with a deadline that is over."""
        job, until_s = self._until
        return job == self._job and time.monotonic() >= until_s

    def _check(self) -> None:
        """Count a chunk of work. Raises `Cancelled` if the clip was dropped."""
        self._steps += 1
        if self._job <= self._dropped:
            raise Cancelled("the clip was dropped")

    def _fail(self, job: int | None, error: EdgeError) -> None:
        self._channel.send(Failed(job=job, kind=type(error).__name__, text=str(error)))

    def _leave(self, told: EdgeError, cause: BaseException) -> NoReturn:
        self._fail(None, told)
        raise SystemExit(1) from cause

    def _explained(self, error: EdgeError) -> EdgeError:
        """Return `error`, with a remedy added if it says that a runtime's allocation failed."""
        if isinstance(error, RuntimeFailure) and any(word in str(error) for word in _NO_MEMORY):
            return RuntimeFailure(f"{self._no_memory()} ({error})")
        return error

    def _no_memory(self) -> str:
        budget_mb = self._opening.budget_mb
        had = f"its budget of {budget_mb:.0f} MB" if budget_mb is not None else "the memory that was free"
        return f"the reasoner needs more than {had}; raise the budget, or use a smaller bundle or profile"

    def _listen(self) -> None:
        try:
            while True:
                parcel = self._channel.receive()
                message, arrived_s = parcel.message, time.monotonic()
                if isinstance(message, Drop):
                    self._dropped = message.job
                elif isinstance(message, Ask) and message.deadline_s is not None:
                    self._until = message.job, arrived_s + message.deadline_s
                self._inbox.put((parcel, arrived_s))
        except EOFError:
            os._exit(0)
        except MemoryError:
            self._fail(None, RuntimeFailure(self._no_memory()))
        finally:
            os._exit(1)

    def _beat(self) -> None:
        parent = os.getppid()
        try:
            while os.getppid() == parent:
                self._channel.send(Beat(step=self._steps if self._working else 0))
                time.sleep(BEAT_S)
        except BrokenPipeError:
            pass
        finally:
            os._exit(0)


def main() -> None:
    """Run the process."""
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    opening = channel.receive().message
    if not isinstance(opening, Open):
        raise RuntimeFailure(f"expected a message that opens a bundle, found {opening}")
    be_patient(opening.priority)
    Worker(channel, opening).run()


if __name__ == "__main__":
    main()
