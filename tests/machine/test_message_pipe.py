"""Frames between two processes: whole, or an error, and never a wait without end."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.machine import message_pipe
from pytest_mlperf.machine.message_pipe import MessagePipe
from pytest_mlperf.machine.message_pipe import PipeDamaged

MESSAGES = st.recursive(
    st.none() | st.integers() | st.text() | st.binary(max_size=99),
    lambda inner: st.lists(inner, max_size=9),
    max_leaves=9,
).filter(lambda message: message is not None)
SHORT_S = 0.01


@dataclass
class Ends:
    """A pipe to read from, one to send on, and the sender's descriptor."""

    reader: MessagePipe
    sender: MessagePipe
    raw: socket.socket

    @classmethod
    def open(cls) -> Ends:
        reader, theirs = MessagePipe.open()
        return cls(reader, MessagePipe(os.dup(theirs.fileno())), theirs)

    def close(self) -> None:
        for end in (self.reader, self.sender, self.raw):
            end.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends.open()
    yield ends
    ends.close()


def frames_of(*messages: Any) -> bytes:
    """Return the bytes that messages are sent as."""
    ends = Ends.open()
    for message in messages:
        ends.reader.send(message)
    ends.reader.close()
    data = b""
    while read := ends.raw.recv(1 << 20):
        data += read
    ends.close()
    return data


def read_all(ends: Ends) -> list[Any]:
    """Return the messages that are there, up to the first error or pause."""
    messages = []
    while (message := ends.reader.receive(0)) is not None:
        messages.append(message)
    return messages


@settings(max_examples=60)
@given(messages=st.lists(MESSAGES, max_size=4), cuts=st.lists(st.integers(1, 400)))
def test_messages_arrive_whole_however_they_are_cut(
    messages: list[Any], cuts: list[int]
) -> None:
    """A pipe of bytes may split a message anywhere, and join two."""
    ends = Ends.open()
    data, received = frames_of(*messages), []
    for cut in [*cuts, len(data)]:
        ends.raw.send(data[:cut])
        data = data[cut:]
        received += read_all(ends)

    assert received == messages
    assert ends.reader.unfinished_s == 0
    ends.close()


@settings(max_examples=60)
@given(message=MESSAGES, data=st.data())
def test_a_changed_byte_is_never_a_message(message: Any, data: st.DataObject) -> None:
    """What is changed anywhere is an error, or waits for a rest that never comes."""
    frame = bytearray(frames_of(message))
    place = data.draw(st.integers(0, len(frame) - 1))
    frame[place] ^= data.draw(st.integers(1, 255))
    ends = Ends.open()
    ends.raw.send(frame)
    try:
        received = read_all(ends)
    except PipeDamaged:
        received = []

    assert received == []
    ends.close()


@settings(max_examples=60)
@given(text=st.text(min_size=1).map(str.encode))
def test_text_between_two_messages_is_named(text: bytes) -> None:
    """The first byte tells: nobody waits for as many bytes as it may stand for."""
    ends = Ends.open()
    ends.sender.send("one")
    ends.raw.send(text)
    ends.sender.send("two")

    assert ends.reader.receive() == "one"
    with pytest.raises(PipeDamaged, match="where a message should begin"):
        ends.reader.receive()
    ends.close()


def test_half_a_message_is_waited_for_no_longer_than_asked(ends: Ends) -> None:
    """Meanwhile the pipe says for how long nothing more came."""
    frame = frames_of("a message")
    ends.raw.send(frame[:-3])

    assert ends.reader.receive(SHORT_S) is None
    assert ends.reader.unfinished_s > 0
    ends.raw.send(frame[-3:])
    assert ends.reader.receive() == "a message"
    assert ends.reader.unfinished_s == 0


def test_too_large_a_message_is_refused_on_both_sides(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender says so before a byte is out; a reader asks for no memory."""
    frame = frames_of(b"x" * 1000)
    monkeypatch.setattr(message_pipe, "LARGEST", 999)

    with pytest.raises(ValueError, match=r"a bytes of 1,\d+ bytes should have 999 at"):
        ends.sender.send(b"x" * 1000)
    ends.raw.send(frame)
    with pytest.raises(PipeDamaged, match="but 999 is the largest"):
        ends.reader.receive()


def test_a_large_message_passes_while_both_sides_are_at_work(ends: Ends) -> None:
    """It is larger than what the kernel keeps."""
    message = list(range(1_000_000))
    sending = threading.Thread(target=ends.sender.send, args=(message,))
    sending.start()
    received = ends.reader.receive()
    sending.join()

    assert received == message


def test_who_does_not_read_holds_up_nobody_for_long(ends: Ends) -> None:
    """A stopped process reads nothing."""
    with pytest.raises(TimeoutError, match="does not read"):
        ends.sender.send(b"x" * (8 << 20), timeout_s=SHORT_S)


def test_a_message_that_cannot_be_unpickled_is_named(ends: Ends) -> None:
    """Its class may be in a module that only the other process has."""
    import pickle
    import zlib

    payload = pickle.dumps(Path).replace(b"Path", b"Psth")
    header = message_pipe.HEADER.pack(
        message_pipe.MARK, len(payload), zlib.crc32(payload)
    )
    ends.raw.send(header + payload)

    with pytest.raises(PipeDamaged, match="a message cannot be read"):
        ends.reader.receive()


@pytest.mark.parametrize("how", ["sender", "reader"])
def test_an_end_that_is_closed_is_an_end_of_file(ends: Ends, how: str) -> None:
    """From outside, or in this process by another thread."""
    ends.raw.close()
    (ends.sender if how == "sender" else ends.reader).close()

    with pytest.raises((EOFError, OSError)):
        ends.reader.receive()


def test_descriptors_come_with_their_message(ends: Ends) -> None:
    """Each set belongs to the message it was sent with, in order."""
    pairs = [os.pipe() for _ in range(3)]
    for readable, writable in pairs:
        ends.sender.send("slot", (readable, writable))
    for _, writable in pairs:
        os.write(writable, b"%d" % writable)
        received = ends.reader.receive()
        copies = ends.reader.take_handles(2)
        text = os.read(copies[0], 9)
        for one in copies:
            os.close(one)

        assert received == "slot"
        assert int(text) == writable
    for pair in pairs:
        for one in pair:
            os.close(one)

    with pytest.raises(PipeDamaged, match="0 of 2 descriptors"):
        ends.reader.take_handles(2)
