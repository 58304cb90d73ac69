"""A speech workload whose recordings can be sent to a server that transcribes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from typing import runtime_checkable


@runtime_checkable
class HasRecordings(Protocol):
    """A ``TensorWorkload`` of a benchmark that takes ``recordings``."""

    def recording(self, index: int) -> bytes:
        """Return a loaded sample as a wav file: one channel of 16 bits."""

    def tokenize(self, text: str) -> Sequence[int]:
        """Return a transcript as the tokens that an engine would give: a server tells
        text alone, and the round counts tokens.
        """
