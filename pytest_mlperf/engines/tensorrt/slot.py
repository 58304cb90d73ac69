"""What a chunk under way needs: memory on both sides, events, and ways to launch it."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from typing import Any

from pytest_mlperf.api.samples import Array
from pytest_mlperf.engines.tensorrt.profiles import Shape
from pytest_mlperf.engines.tensorrt.runtime import Port
from pytest_mlperf.engines.tensorrt.runtime import RunFailed


@dataclass(slots=True)
class Memory:
    """Room for one tensor's largest shape, on the host (pinned) and on the device."""

    port: Port
    host: Array
    address: int

    def view(self, shape: Shape) -> Array:
        """Return the host's bytes as an array of that shape."""
        size = self.port.bytes(shape)
        return self.host[:size].view(self.port.dtype).reshape(shape)


@dataclass(slots=True)
class Launch:
    """One execution context with its shapes and addresses set, maybe as a graph."""

    context: Any
    outputs: dict[str, Shape]
    graph: Any = None


@dataclass(slots=True)
class Slot:
    """Buffers and events of one chunk under way."""

    inputs: dict[str, Memory]
    outputs: dict[str, Memory]
    begun: Any
    copied: Any
    computed: Any
    done: Any
    started: float = 0.0
    """Host's time at ``begun``, seconds."""
    rows: int = 0
    """Samples under way."""
    launches: dict[tuple[int, int], Launch] = field(default_factory=dict)
    """Recorded (batch, length) -> launch."""
    free: dict[int, Any] = field(default_factory=dict)
    """Profile -> context for shapes that are not recorded."""


def fill(target: Array, source: Array) -> None:
    """Copy a batch into the corner of its padded shape; the rest is zero."""
    if target.shape != source.shape:
        target[...] = 0
    target[tuple(slice(0, n) for n in source.shape)] = source


def must(done: bool, what: str) -> None:
    if not done:
        raise RunFailed(f"TensorRT refused {what}; its log above says why")
