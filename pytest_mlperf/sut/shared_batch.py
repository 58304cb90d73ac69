"""How a batch goes to another process and its answers come back: one shared slot.

The indices go in and the answers come out through memory that both processes map; a
socket carries a few bytes each way, to wake the other side. The cost is that of a
batch: nothing is pickled, and an answer is copied once, into the slot, from which
LoadGen takes it by address.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Responses
from pytest_mlperf.sut.completion import address

REQUEST = struct.Struct("<q")
"""Samples of the batch."""
REPLY = struct.Struct("<qq??")
"""Bytes of the slot, bytes of a row, whether each row says how many of its bytes count,
and whether it says its output tokens."""
ROOM = 1 << 16
"""Bytes for answers that a slot begins with; it grows to what they need."""


class Ended(Exception):
    """The other side is gone."""


@dataclass(slots=True)
class BatchSlot:
    """One batch's memory: its indices, sizes and tokens of its answers, the answers."""

    descriptor: int
    most: int
    """Samples of the largest batch."""
    indices: NDArray[np.int32] = field(init=False)
    sizes: NDArray[np.int64] = field(init=False)
    tokens: NDArray[np.int64] = field(init=False)
    rows: NDArray[np.uint8] = field(init=False)
    size: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.view(max(os.fstat(self.descriptor).st_size, self.at + ROOM))

    @property
    def at(self) -> int:
        """Where the answers begin."""
        return -(-20 * self.most // mmap.PAGESIZE) * mmap.PAGESIZE

    def view(self, size: int) -> None:
        """Map so many bytes, and make the memory as large; it never shrinks."""
        if os.fstat(self.descriptor).st_size < size:
            os.ftruncate(self.descriptor, size)
        memory = mmap.mmap(self.descriptor, size)
        # The arrays keep the map alive; a former one ends with its last view.
        self.sizes = np.frombuffer(memory, np.int64, self.most)
        self.tokens = np.frombuffer(memory, np.int64, self.most, 8 * self.most)
        self.indices = np.frombuffer(memory, np.int32, self.most, 16 * self.most)
        self.rows = np.frombuffer(memory, np.uint8, offset=self.at)
        self.size = size

    def close(self) -> None:
        """Give the descriptor back; the memory goes with the last view of it."""
        os.close(self.descriptor)


@dataclass(slots=True)
class Caller:
    """The end that hands batches over. Used from one thread at a time."""

    slot: BatchSlot
    line: socket.socket

    def ask(self, indices: Sequence[int]) -> None:
        """Hand a batch over. Raises ``Ended``."""
        size = len(indices)
        self.slot.indices[:size] = indices
        try:
            self.line.send(REQUEST.pack(size))
        except OSError as error:
            raise Ended from error

    def wait(self, size: int) -> tuple[int, int, list[int] | None, list[int] | None]:
        """Wait; return the address of the answers, the bytes of a row, how many of
        each row count (None: all), and the output tokens. Raises ``Ended``.
        """
        try:
            reply = self.line.recv(REPLY.size)
        except OSError as error:
            raise Ended from error
        if not reply:
            raise Ended
        total, row, has_sizes, has_tokens = REPLY.unpack(reply)
        slot = self.slot
        if total > slot.size:
            slot.view(total)
        sizes = slot.sizes[:size].tolist() if has_sizes else None
        tokens = slot.tokens[:size].tolist() if has_tokens else None
        return address(slot.rows), row, sizes, tokens

    def close(self) -> None:
        """Tell the other side that there is no more."""
        self.line.close()
        self.slot.close()


@dataclass(slots=True)
class Answerer:
    """The end that takes batches. Used from one thread at a time."""

    slot: BatchSlot
    line: socket.socket

    def take(self) -> list[int] | None:
        """Wait for a batch and return its indices; None when there is no more."""
        try:
            request = self.line.recv(REQUEST.size)
        except OSError:
            return None
        if not request:
            return None
        (size,) = REQUEST.unpack(request)
        indices: list[int] = self.slot.indices[:size].tolist()
        return indices

    def answer(self, responses: Responses) -> None:
        """Hand answers back."""
        rows, sizes, tokens = responses
        slot, size = self.slot, len(rows)
        total = slot.at + rows.nbytes
        if total > slot.size:
            slot.view(total)
        slot.rows[: rows.nbytes] = rows.reshape(-1).view(np.uint8)
        if sizes is not None:
            slot.sizes[:size] = sizes
        if tokens is not None:
            slot.tokens[:size] = tokens
        flags = (sizes is not None, tokens is not None)
        self.line.send(REPLY.pack(slot.size, rows.nbytes // size, *flags))

    def close(self) -> None:
        self.line.close()
        self.slot.close()


def make_pair(most: int) -> tuple[Caller, socket.socket]:
    """Return the near end of a slot, and the far end's socket; both share the slot's
    descriptor, which goes to the other process too.
    """
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    descriptor = os.memfd_create("pytest-mlperf-slot", os.MFD_CLOEXEC)
    return Caller(BatchSlot(descriptor, most), near), far
