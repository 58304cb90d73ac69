"""Functions of tensors, replayed as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_mlperf.engines.torch.cuda_graph import RECORDING
from pytest_mlperf.engines.torch.cuda_graph import record_graph
from pytest_mlperf.engines.torch.cuda_source import first_line


@dataclass(slots=True)
class _Recording:
    inputs: Sequence[Any]
    output: Any
    graph: Any


class RecordedFunction:
    """Runs a function of tensors; on a CUDA stream of its own, as a graph a shape.

    Where it cannot be recorded it is called, and ``report`` says so. The output is
    overwritten by the next call of the same shapes.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._recordings: dict[tuple[Any, ...], _Recording | None] = {}
        self.report = ""

    def __call__(self, *inputs: Any) -> Any:
        key = tuple((tuple(one.shape), one.dtype) for one in inputs)
        if key not in self._recordings:
            self._recordings[key] = self._record(inputs)
        recording = self._recordings[key]
        if recording is None:
            return self._function(*inputs)
        for held, given in zip(recording.inputs, inputs, strict=True):
            held.copy_(given, non_blocking=True)
        recording.graph.replay()
        return recording.output

    def _record(self, inputs: Sequence[Any]) -> _Recording | None:
        import torch

        held = [one.clone() for one in inputs]
        stream = torch.cuda.current_stream()
        with RECORDING:
            for _ in range(2):  # libraries choose algorithms in the first runs
                self._function(*held)
            stream.synchronize()
            try:
                graph, output = record_graph(lambda: self._function(*held), stream)
            except RuntimeError as error:
                self.report = f"off: {first_line(error)}"
                return None
        self.report = "one a batch size"
        return _Recording(held, output, graph)

    def close(self) -> None:
        """Release graphs and buffers."""
        self._recordings.clear()
