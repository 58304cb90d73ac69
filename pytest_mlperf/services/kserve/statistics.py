"""What a server counts of a model, before and after a run (the statistics extension).

Means of queue and computation are differences of two readings, so that warm-ups and
earlier runs are not in them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PHASES = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """A model's counters, over all its versions."""

    requests: int = 0
    """That succeeded."""
    failed: int = 0
    inferences: int = 0
    """Samples of the requests that succeeded."""
    executions: int = 0
    """Batches that the server made of them."""
    phase_ns: tuple[int, ...] = (0,) * len(PHASES)
    """Sums over requests, in the order of ``PHASES``."""
    success_ns: int = 0
    """Sum over the requests that succeeded, from request to answer."""

    def __add__(self, other: ServerStatistics) -> ServerStatistics:
        return self._combine(other, 1)

    def __sub__(self, other: ServerStatistics) -> ServerStatistics:
        return self._combine(other, -1)

    def _combine(self, other: ServerStatistics, sign: int) -> ServerStatistics:
        return ServerStatistics(
            self.requests + sign * other.requests,
            self.failed + sign * other.failed,
            self.inferences + sign * other.inferences,
            self.executions + sign * other.executions,
            tuple(
                one + sign * two
                for one, two in zip(self.phase_ns, other.phase_ns, strict=True)
            ),
            self.success_ns + sign * other.success_ns,
        )


def read_statistics(document: Any) -> ServerStatistics:
    """Return the counters of a statistics document.

    Numbers may be texts, as gRPC's JSON has them. Raises ``ValueError`` for another
    document.
    """
    total = ServerStatistics()
    try:
        for version in document["model_stats"]:
            # A message of gRPC that nobody filled in is left out.
            stats = defaultdict(dict, version["inference_stats"])
            total += ServerStatistics(
                _number(stats["success"], "count"),
                _number(stats["fail"], "count"),
                _number(version, "inference_count"),
                _number(version, "execution_count"),
                tuple(_number(stats[phase], "ns") for phase in PHASES),
                _number(stats["success"], "ns"),
            )
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            "no statistics of a model, but should be model_stats"
        ) from None
    return total


def _number(values: Mapping[str, Any], name: str) -> int:
    return int(values.get(name, 0))
