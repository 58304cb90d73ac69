"""Whole messages between two processes of ours.

A frame is a header (a mark, the payload's size and CRC-32) and a pickled object.
Reading never waits for the rest of a frame longer than asked, and what is no frame of
ours is an error at once: an engine may write to any descriptor of its process.
"""

from __future__ import annotations

import pickle
import select
import socket
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pytest_mlperf.core.redaction import cut

MARK = b"\xffMLP"
"""No text in UTF-8 has the first byte."""
HEADER = struct.Struct("!4sII")
LARGEST = 64 << 20
"""Bytes of a message: ten million sample indices. Reports are much smaller."""
SHOWN = 40
"""Characters of a stray write in the error."""
CHUNK = 1 << 16
MOST_HANDLES = 8


class PipeDamaged(Exception):
    """What arrived is no message of ours; nothing after it can be read."""


class MessagePipe:
    """One end of a two-way pipe. Any thread may send; one thread receives."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._lock = threading.Lock()
        self._received = bytearray()
        self._received_at = 0.0
        self._handles: deque[int] = deque()

    @classmethod
    def open(cls) -> tuple[MessagePipe, socket.socket]:
        """Return one end, and what another process makes its end of."""
        ours, theirs = socket.socketpair()
        return cls(ours.detach()), theirs

    def close(self) -> None:
        """Close the pipe, also where other processes have descriptors of this end."""
        with suppress(OSError):
            # A thread may wait for what comes from there.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        while self._handles:
            socket.close(self._handles.popleft())

    @property
    def unfinished_s(self) -> float:
        """Seconds for which nothing more came of a message that has begun; 0: none."""
        return time.monotonic() - self._received_at if self._received else 0.0

    def send(
        self,
        message: object,
        handles: Sequence[int] = (),
        timeout_s: float | None = None,
    ) -> None:
        """Send a message, and descriptors for ``take_handles`` with it.

        Raises ``ValueError`` for a message that is too large, ``TimeoutError`` where
        the other end does not read, and ``OSError`` where it is gone.
        """
        payload = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        if len(payload) > LARGEST:
            raise ValueError(
                f"a {type(message).__name__} of {len(payload):,} bytes should have "
                f"{LARGEST:,} at most; send less in one message"
            )
        header = HEADER.pack(MARK, len(payload), zlib.crc32(payload))
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            if handles:
                # With the first byte; the header is small enough to be sent whole.
                socket.send_fds(self._socket, [header], handles)
                header = b""
            self._send_bytes(memoryview(header + payload), until)

    def receive(self, timeout_s: float | None = None) -> Any:
        """Return the next message, or None when it is not whole in time.

        Raises ``PipeDamaged``, and ``EOFError`` where the other end is gone.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while (payload := self._cut_payload()) is None:
            if not self._await(select.POLLIN, until):
                return None
            self._read()
        try:
            return pickle.loads(payload)  # noqa: S301 - of a process of ours
        except Exception as error:
            raise PipeDamaged(
                f"a message cannot be read ({type(error).__name__}: {error})"
            ) from error

    def take_handles(self, count: int) -> list[int]:
        """Return descriptors that came with the last message."""
        if len(self._handles) < count:
            raise PipeDamaged(f"{len(self._handles)} of {count} descriptors came")
        return [self._handles.popleft() for _ in range(count)]

    def _send_bytes(self, data: memoryview, until: float | None) -> None:
        while data:
            if not self._await(select.POLLOUT, until):
                raise TimeoutError("the other end of the pipe does not read")
            with suppress(BlockingIOError):
                data = data[self._socket.send(data, socket.MSG_DONTWAIT) :]

    def _read(self) -> None:
        """Take what is there."""
        try:
            data, handles, _, _ = socket.recv_fds(
                self._socket, CHUNK, MOST_HANDLES, socket.MSG_DONTWAIT
            )
        except BlockingIOError:
            return
        except ConnectionResetError:
            data, handles = b"", []
        if not data:
            raise EOFError
        self._handles += handles
        self._received += data
        self._received_at = time.monotonic()

    def _cut_payload(self) -> bytes | None:
        """Return the payload of the first frame, once it is whole and intact."""
        received = self._received
        if not MARK.startswith(received[: len(MARK)]):
            stray = cut(received.decode("latin-1"), SHOWN).encode("latin-1")
            raise PipeDamaged(
                f"found {stray!r} where a message should begin; "
                "something in that process (an engine, a library) writes to a file "
                "descriptor that is not its own"
            )
        if len(received) < HEADER.size:
            return None
        _, size, checksum = HEADER.unpack_from(received)
        if size > LARGEST:
            raise PipeDamaged(
                f"found a message of {size:,} bytes, but {LARGEST:,} is the largest"
            )
        end = HEADER.size + size
        if len(received) < end:
            return None
        payload = bytes(received[HEADER.size : end])
        if zlib.crc32(payload) != checksum:
            raise PipeDamaged("a message arrived with other bytes than were sent")
        del received[:end]
        return payload

    def _await(self, event: int, until: float | None) -> bool:
        """Return whether the socket is ready in time."""
        if self._socket.fileno() < 0:
            raise EOFError
        poll = select.poll()
        poll.register(self._socket, event)
        left = None if until is None else max(0.0, until - time.monotonic()) * 1000
        return bool(poll.poll(left))
