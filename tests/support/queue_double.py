"""A server of known capacity on a virtual clock: minutes of load in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field

import numpy as np

from pytest_mlperf.core.early_stopping import is_proof
from pytest_mlperf.core.load_trials import LoadTrial

PERCENTILE = 0.99


@dataclass
class QueueDouble:
    """One line of random arrivals, answered one after another in a constant time."""

    service_s: float
    bound_s: float
    seed: int = 0
    slow_down: Callable[[float], float] = lambda _: 1.0
    """Seconds of the virtual clock -> how many times slower it is then."""
    others: Callable[[float], float] = lambda _: 0.0
    """Seconds of the virtual clock -> share of the CPUs that others show to use."""
    beside: Callable[[float], str] = lambda _: ""
    """Seconds of the virtual clock -> the sessions that measure beside it."""
    clock_s: float = 0.0
    """How long it has been measured."""
    runs: int = 0
    _random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)

    @property
    def rate(self) -> float:
        """Answers a second in a closed loop."""
        return 1 / self.service_s

    def run(self, qps: float, seconds: float) -> LoadTrial:
        """Run it at a load and return what was late."""
        count = max(int(qps * seconds), 1)
        arrivals = np.cumsum(self._random.exponential(1 / qps, count))
        service_s = self.service_s * self.slow_down(self.clock_s)
        numbers = np.arange(count)
        # Whoever comes begins when the one before is done: Lindley's recursion, whole.
        begins = np.maximum.accumulate(arrivals - numbers * service_s)
        latencies = begins + (numbers + 1) * service_s - arrivals
        took_s = max(seconds, float(arrivals[-1]))
        others, beside = self.others(self.clock_s), self.beside(self.clock_s)
        self.clock_s += took_s
        self.runs += 1
        tail = float(np.sort(latencies)[int(count * PERCENTILE)])
        return LoadTrial(
            qps, took_s, tail / self.bound_s, count,
            int((latencies > self.bound_s).sum()), others,
            others > 0.05 or bool(beside), beside=beside,
        )  # fmt: skip

    def confirm(self, qps: float, seconds: float) -> tuple[bool, LoadTrial]:
        """Run the whole length and return whether early stopping is satisfied."""
        shown = self.run(qps, seconds)
        assert shown.queries is not None
        assert shown.late is not None
        return is_proof(shown.queries, shown.late, PERCENTILE), shown
