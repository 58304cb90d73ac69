"""What a stream launches, recorded once and replayed as a CUDA graph."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

RECORDING = threading.Lock()
"""Streams record one after another: a stream that begins to record waits for the whole
device, and that spoils what another thread is recording.
"""


def record_graph(
    call: Callable[[], Any], stream: Any, pool: Any = None
) -> tuple[Any, Any]:
    """Return the CUDA graph of what a call launches on a stream, and its result.

    The call has run on the stream before: what compiles or chooses an algorithm cannot
    be recorded. Graphs of one ``pool`` share memory, and are replayed in turn. Raises
    ``RuntimeError``.
    """
    import torch

    graph = torch.cuda.CUDAGraph()
    # Other threads may allocate meanwhile.
    with torch.cuda.graph(
        graph, pool=pool, stream=stream, capture_error_mode="thread_local"
    ):
        result = call()
    return graph, result
