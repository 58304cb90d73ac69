"""Times launches that do the same on the device, to choose the fastest."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence
from statistics import median

BLOCKS = 5
"""Blocks of launches that one choice is timed over."""
BLOCK_MS = 0.2
"""What a block takes, at least."""


def find_fastest(launches: Sequence[Callable[[], None]]) -> int:
    """Return the place of the launch with the shortest median time on this stream.

    The launches take turns block by block, so that neither the clock's resolution nor
    a change of the card's clocks decides.
    """
    for launch in launches:
        _time_ms(launch, 1)  # whatever is compiled or allocated at first
    shortest = min(_time_ms(launch, 4) for launch in launches) / 4
    count = max(4, math.ceil(BLOCK_MS / shortest))
    blocks = [[_time_ms(launch, count) for launch in launches] for _ in range(BLOCKS)]
    middle = [median(times) for times in zip(*blocks, strict=True)]
    return middle.index(min(middle))


def _time_ms(launch: Callable[[], None], count: int) -> float:
    """Return the device's time of ``count`` launches."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    # The device waits while the calls are queued: launch cost is hidden.
    torch.cuda._sleep(20_000 * count)
    start.record()
    for _ in range(count):
        launch()
    end.record()
    end.synchronize()
    elapsed: float = start.elapsed_time(end)
    return elapsed
