"""What waits to be sent, over a real pair of sockets of which the other end does not read at first."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from edge_sdk.explaining.channel import Channel
from edge_sdk.explaining.messages import Ask, Begin, Drop, Message, Picture
from edge_sdk.explaining.outbox import Outbox

# More than a pair of sockets holds.
LARGE = 2_000_000


@pytest.fixture
def ends() -> Iterator[tuple[Outbox, Channel, Channel]]:
    """What is sent from, its channel, and the channel's other side."""
    here, there = (Channel(end) for end in socket.socketpair())
    outbox = Outbox(here)
    yield outbox, here, there
    here.close()
    outbox.close()
    there.close()


def picture(job: int) -> Picture:
    return Picture(job=job, width=LARGE // 3, height=1, time_s=0.0)


def until_asked(channel: Channel) -> list[tuple[Message, bytes]]:
    found: list[tuple[Message, bytes]] = []
    while not found or not isinstance(found[-1][0], Ask):
        parcel = channel.receive()
        found.append((parcel.message, bytes(parcel.data)))
    return found


def test_everything_comes_in_order_as_it_was_given(ends: tuple[Outbox, Channel, Channel]) -> None:
    outbox, _, there = ends
    data = bytearray(LARGE)
    said: list[Message] = [Begin(job=1, profile="p"), *[picture(1)] * 4, Ask(job=1, tasks=("cause",))]
    for number, message in enumerate(said):
        data[0] = number
        outbox.put(message, memoryview(data) if isinstance(message, Picture) else b"")
    found = until_asked(there)
    assert [message for message, _ in found] == said
    assert [data[0] for _, data in found if data] == [1, 2, 3, 4], "the buffer was used again meanwhile"


def test_a_clip_that_is_given_up_takes_along_what_waits_for_it(ends: tuple[Outbox, Channel, Channel]) -> None:
    outbox, _, there = ends
    for job in range(1, 21):
        for message in (Begin(job=job, profile="p"), picture(job), picture(job), Drop(job=job)):
            outbox.put(message, bytes(LARGE) if isinstance(message, Picture) else b"")
    outbox.put(Begin(job=21, profile="p"))
    outbox.put(picture(21), bytes(LARGE))
    outbox.put(Ask(job=21, tasks=("cause",)))
    found = [message for message, _ in until_asked(there)]
    assert [message.job for message in found if isinstance(message, Drop)] == list(range(1, 21))
    assert sum(isinstance(message, Picture) for message in found) <= 2, "one was on its way"
    assert [type(message) for message in found[-3:]] == [Begin, Picture, Ask]


def test_what_is_given_when_there_is_no_other_side_is_lost(ends: tuple[Outbox, Channel, Channel]) -> None:
    outbox, _, there = ends
    outbox.put(picture(1), bytes(LARGE))
    there.close()
    outbox._thread.join(10)
    assert not outbox._thread.is_alive()
    outbox.put(picture(1), bytes(LARGE))
    outbox.close()


def test_closing_wakes_it_in_the_midst_of_a_picture(ends: tuple[Outbox, Channel, Channel]) -> None:
    outbox, here, _ = ends
    outbox.put(picture(1), bytes(LARGE))
    threading.Timer(0.2, here.shut).start()
    outbox.close()
    assert not outbox._thread.is_alive()


def test_text_that_no_message_can_carry_is_refused_to_who_gives_it(ends: tuple[Outbox, Channel, Channel]) -> None:
    outbox, _, there = ends
    with pytest.raises(UnicodeEncodeError):
        outbox.put(Begin(job=1, profile="\udcff"))
    outbox.put(Ask(job=1, tasks=("cause",)))
    assert len(until_asked(there)) == 1
