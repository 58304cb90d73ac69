"""A built engine as a server offers it; optional ability: a service that serves."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol
from typing import runtime_checkable

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch

ANY = -1
"""A size that requests may choose."""
Infer = Callable[[Batch, int], Sequence[Array]]
"""(inputs, rows) -> outputs, each with so many rows; for one thread at a time."""


@dataclass(frozen=True, slots=True)
class TensorForm:
    """What every array of one input or output has in common."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    """The first axis is the batch: ``ANY``."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a server needs to know of a model, and what runs it."""

    name: str
    platform: str
    """For people: engine and precision."""
    inputs: Mapping[str, TensorForm]
    outputs: Mapping[str, TensorForm]
    """In the order in which ``streams`` return them."""
    streams: Sequence[Infer]
    """Each is run by a thread of its own."""
    max_batch: int
    pads: bool = False
    """Requests of different lengths (axis 1) may share a batch, padded with zeros."""


@runtime_checkable
class ServesModels(Protocol):
    """A ``ServiceProvider`` that has a server of its own for built engines."""

    def serve(
        self, model: ServedModel, host: str, port: int, node: str
    ) -> AbstractContextManager[str]:
        """Serve while the block runs, and give its URL.

        ``port`` 0: a free one. ``node``: what the server calls itself. What was asked
        before the end is answered. Raises ``RunRefused`` for an address that cannot be
        listened on.
        """
