"""Messages over a real pair of sockets, whole or not at all."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from spoken_answer import ANSWER

from edge_sdk.explaining.channel import Channel
from edge_sdk.explaining.messages import Beat, Drop, Picture, Reply, Said, decode, encode


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@pytest.mark.parametrize(
    "value", [True, False, 3.0, (1.0, 2.0), None], ids=["yes", "no", "seconds", "interval", "nothing"]
)
def test_an_answer_comes_back_as_it_was(value: bool | float | tuple[float, float] | None) -> None:
    answer = msgspec.structs.replace(ANSWER, value=value)
    message = Said(job=3, said=Reply(task="cause", answer=answer))
    found = decode(encode(message))
    assert found == message
    assert isinstance(found, Said)
    assert isinstance(found.said, Reply)
    assert type(found.said.answer.value) is type(value)


def test_a_picture_comes_through_whole_while_others_send(ends: tuple[socket.socket, socket.socket]) -> None:
    """Three megabytes, more than a socket holds, and messages of another thread in between."""
    here, there = (Channel(end) for end in ends)
    pixels = np.random.default_rng(1).integers(0, 255, (720, 1280, 3), dtype=np.uint8)

    def beat() -> None:
        for _ in range(20):
            here.send(Beat())

    def show() -> None:
        here.send(Picture(job=1, width=1280, height=720, time_s=0.5), pixels.data.cast("B"))

    threads = [threading.Thread(target=each) for each in (beat, show, beat)]
    for thread in threads:
        thread.start()
    parcels = [there.receive() for _ in range(41)]
    for thread in threads:
        thread.join()
    (shown,) = (parcel for parcel in parcels if isinstance(parcel.message, Picture))
    np.testing.assert_array_equal(np.frombuffer(shown.data, np.uint8).reshape(pixels.shape), pixels)
    assert sum(isinstance(parcel.message, Beat) for parcel in parcels) == 40


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!II", 5, 0) + b"abc",
        struct.pack("!II", 3, 0) + b"abc",
        struct.pack("!II", 0xFFFFFFFF, 0),
        struct.pack("!II", 0, 0xFFFFFFFF),
        encode(Beat())[:2],
    ],
    ids=["cut off", "no message", "too long", "too many bytes", "half a head"],
)
def test_what_is_no_message_ends_the_connection(data: bytes, ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(data)
    ends[0].close()
    with pytest.raises(EOFError):
        Channel(ends[1]).receive()


def test_an_unknown_message_is_refused(ends: tuple[socket.socket, socket.socket]) -> None:
    body = b"\x82\xa4type\xa4Evil\xa3job\x01"
    ends[0].sendall(struct.pack("!II", len(body), 0) + body)
    with pytest.raises(EOFError, match="Evil"):
        Channel(ends[1]).receive()


def test_a_side_that_reads_nothing_is_gone_after_the_time_out(ends: tuple[socket.socket, socket.socket]) -> None:
    here = Channel(ends[0], send_timeout_s=1)
    with pytest.raises(BrokenPipeError):
        here.send(Drop(job=1), bytes(50_000_000))
    with pytest.raises(BrokenPipeError):
        here.send(Drop(job=2))


def test_shutting_wakes_who_waits(ends: tuple[socket.socket, socket.socket]) -> None:
    here = Channel(ends[0])
    threading.Timer(0.1, here.shut).start()
    with pytest.raises(EOFError):
        here.receive()
