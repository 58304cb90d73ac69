"""Four CUDA events a batch: begin, and the ends of copy in, compute and copy out."""

from __future__ import annotations

import time

from pytest_mlperf.api.timeline import Timeline


class BatchEvents:
    """The events of one stream, reused for each of its batches."""

    def __init__(self) -> None:
        import torch

        # Blocking: a thread that waits sleeps, and leaves GIL and core to the others.
        self.events = [
            torch.cuda.Event(enable_timing=True, blocking=True) for _ in range(4)
        ]
        self.timeline = Timeline()
        self._started = 0.0

    def start(self) -> None:
        self._started = time.perf_counter()
        self.events[0].record()

    def mark(self, number: int) -> None:
        """Record the end of copy in (1), compute (2) or copy out (3)."""
        self.events[number].record()

    def finish(self, size: int) -> None:
        """Wait for the batch and note its times."""
        begin, copied, computed, done = self.events
        done.synchronize()
        whole = (time.perf_counter() - self._started) * 1e3
        self.timeline.note(
            whole,
            begin.elapsed_time(copied),
            copied.elapsed_time(computed),
            computed.elapsed_time(done),
            size,
        )
