"""Options and fixtures of the speed benchmarks, which pytest-benchmark tabulates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pytest

from perf.suite_run import Bench
from pytest_mlperf.measure.placement import place
from pytest_mlperf.plugin.session import State


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this folder; they exist only when it is named."""
    group = parser.getgroup("speed", "speed of pytest-mlperf itself")
    group.addoption("--ratio-runs", type=int, default=3, metavar="N",
                    help="runs of each side of a comparison (default 3)")  # fmt: skip
    group.addoption("--ratio-scale", type=float, default=1.0, metavar="X",
                    help="factor on the length of LoadGen runs; below 1 the figures "
                    "mean little (default 1)")  # fmt: skip


def pytest_benchmark_update_json(
    config: pytest.Config, output_json: dict[str, Any]
) -> None:
    """Keep beside the figures what says how far to trust them."""
    output_json["ratio_scale"] = config.getoption("--ratio-scale")
    output_json["load_average"] = os.getloadavg()


@pytest.fixture(scope="session")
def bench(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    """The session's folders, CPUs and number of runs."""
    state = State.of(pytestconfig)
    return Bench(
        folder=tmp_path_factory.mktemp("speed"),
        cache=state.options.cache,
        cpus=place(state.measuring).cpus,
        runs=pytestconfig.getoption("--ratio-runs"),
        scale=pytestconfig.getoption("--ratio-scale"),
    )


class Clock:
    """A timer that stands still but for what it is advanced by."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def read(self) -> float:
        return self._seconds

    def reset(self) -> None:
        """Begin at 0 again, so that a difference is not rounded."""
        self._seconds = 0.0

    def advance(self, seconds: float) -> None:
        self._seconds += seconds


@dataclass(frozen=True, slots=True)
class Replay:
    """Reports figures that were measured elsewhere as rounds of pytest-benchmark.

    LoadGen's p99, another process's rate and the result of a bisection are not the time
    of any call here, and pytest-benchmark runs the rounds of one side before those of
    the next, where ours alternate. It takes a timer of one's own, though: this one
    advances by the figure. Table, save and compare are pytest-benchmark's.
    """

    benchmark: Any
    clock: Clock

    def report_seconds(
        self, group: str, seconds: Sequence[float], **extra_info: object
    ) -> None:
        """Report times, one a round."""
        figures = iter(seconds)
        self.benchmark.group = group
        self.benchmark.extra_info.update(extra_info)
        self.benchmark.pedantic(
            lambda: self.clock.advance(next(figures)),
            setup=self.clock.reset,
            rounds=len(seconds),
        )

    def report_rates(
        self, group: str, rates: Sequence[float], unit: str, **extra_info: object
    ) -> None:
        """Report rates as the time of one; the column OPS is the rate again.

        Fails for a rate of 0.
        """
        assert min(rates) > 0, f"{group}: nothing was answered"
        seconds = [1 / rate for rate in rates]
        extra_info[f"{unit}/s"] = median(rates)
        self.report_seconds(f"{group}, time per {unit}", seconds, **extra_info)


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> Clock:
    """The timer of the item's benchmark, which must not exist yet."""
    clock = Clock()
    request.node.add_marker(pytest.mark.benchmark(timer=clock.read))
    return clock


@pytest.fixture
def replay(clock: Clock, benchmark: Any) -> Replay:
    """Reports the figures of one side of a comparison."""
    return Replay(benchmark, clock)
