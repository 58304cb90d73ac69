"""Finds the largest batch that builds, and whether CUDA graphs have to go for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic
from typing import TypeVar

from pytest_mlperf.engines.tensorrt.failures import SMALLER_HELPS
from pytest_mlperf.engines.tensorrt.failures import Failure

Made = TypeVar("Made")

Attempt = Callable[[int, bool], "Made | Failure"]
"""(batch, with CUDA graphs) -> what was built, or why not."""


@dataclass(frozen=True, slots=True)
class Found(Generic[Made]):
    """What a search ended with; ``failure`` is the last one, where there was any."""

    made: Made | None
    batch: int
    graphs: bool
    tried: tuple[tuple[int, str], ...]
    """(batch, outcome) in order; the outcome is ``built`` or the failure's kind."""
    failure: Failure | None = None


def largest(attempt: Attempt[Made], wanted: int, *, graphs: bool = True) -> Found[Made]:
    """Return the largest batch up to ``wanted`` that builds.

    The one that is wanted first; where it fails for a reason that a smaller batch may
    cure, 1, 2, 4 … and then bisection: at most 2·log2(wanted) builds, rounded up. When
    not even batch 1 builds with CUDA graphs, the same once more without. What builds
    at a batch is taken to build at every smaller one.
    """
    search = _Search(attempt, graphs)
    batch = search.largest(wanted)
    if not batch and graphs and search.curable:
        search.graphs = False
        batch = 1 if search.builds(1) else 0
        if batch and wanted > 1:
            # What graphs took may be all that the wanted batch lacked.
            batch = search.largest(wanted, floor=1)
    made = search.made if batch else None
    return Found(made, batch, search.graphs, tuple(search.tried), search.failure)


class _Search(Generic[Made]):
    def __init__(self, attempt: Attempt[Made], graphs: bool) -> None:
        self.attempt, self.graphs = attempt, graphs
        self.tried: list[tuple[int, str]] = []
        self.made: Made | None = None
        self.failure: Failure | None = None

    @property
    def curable(self) -> bool:
        return self.failure is not None and self.failure.kind in SMALLER_HELPS

    def builds(self, batch: int) -> bool:
        """Try one batch; what it made replaces what a smaller one had made."""
        outcome = self.attempt(batch, self.graphs)
        without = "" if self.graphs else " without CUDA graphs"
        if isinstance(outcome, Failure):
            self.failure = outcome
            self.tried.append((batch, f"{outcome.kind}{without}"))
            return False
        self.made = outcome
        self.tried.append((batch, f"built{without}"))
        return True

    def largest(self, wanted: int, floor: int = 0) -> int:
        """Return the largest batch; ``floor`` is known to build."""
        if self.builds(wanted):
            return wanted
        low, high = floor, wanted
        step = 2 * floor or 1
        while self.curable and step < high:
            if self.builds(step):
                low, step = step, 2 * step
            else:
                high = step
        while self.curable and low and high - low > 1:
            middle = (low + high) // 2
            if self.builds(middle):
                low = middle
            else:
                high = middle
        return low
