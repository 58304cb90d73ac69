# ruff: noqa: RUF009 - named_option() returns fields
"""How a server is loaded for a deployment's tables, by the names of perf_analyzer."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pytest_mlperf.config.named_option import list_help
from pytest_mlperf.config.named_option import list_variables
from pytest_mlperf.config.named_option import named_option
from pytest_mlperf.config.named_option import read_named
from pytest_mlperf.config.option_types import one_of
from pytest_mlperf.config.option_types import parse_number
from pytest_mlperf.config.option_types import parse_whole


@dataclass(frozen=True, slots=True)
class Range:
    """``start:end:step`` of perf_analyzer's ranges; without a step it is 1."""

    start: float
    end: float
    step: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Range:
        """Read ``10:100:10``; raises ``ValueError``."""
        try:
            numbers = [parse_number(part) for part in text.split(":")]
            made = cls(*numbers)
        except (TypeError, ValueError):
            raise ValueError(
                "start:end or start:end:step, numbers above 0 such as 10:100:10"
            ) from None
        if made.end < made.start:
            raise ValueError("start:end:step with an end of at least the start")
        return made

    def __iter__(self) -> Iterator[float]:
        count = int((self.end - self.start) / self.step + 1e-9)
        return (self.start + n * self.step for n in range(count + 1))


def parse_sizes(text: str) -> tuple[int, ...]:
    """Batch sizes apart by spaces or ``+``: commas separate the options."""
    parts = text.replace("+", " ").replace(",", " ").split()
    if not parts:
        raise ValueError("batch sizes such as 4+8")
    return tuple(sorted({parse_whole(part) for part in parts}))


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How requests come, and how long they are watched."""

    batch_size: tuple[int, ...] = named_option(
        parse_sizes,
        "(samples of a request of a deployment's table; default 1+8+16)",
        "BATCH_SIZE",
        default=(1, 8, 16),
    )
    request_rate_range: Range | None = named_option(
        Range.parse, "(of a deployment's table: requests a second, 10:100:10)"
    )
    request_distribution: str = named_option(
        one_of("constant", "poisson"),
        "(of requests at a rate: constant or poisson)",
        default="constant",
    )
    binary_search: str = named_option(
        one_of("0", "1"),
        "(of the rates, for the highest below latency_threshold: 0 or 1)",
        default="0",
    )
    latency_threshold: float = named_option(
        parse_number,
        "(ms: no higher load is measured than the first above it)",
        default=float("inf"),
    )
    percentile: str = named_option(
        one_of("50", "90", "95", "99"),
        "(that latency_threshold is of: 50, 90, 95 or 99; default the mean)",
        default="",
    )
    measurement_mode: str = named_option(
        one_of("time_windows", "count_windows"),
        "(of windows: time_windows or count_windows)",
        default="",
    )
    """Empty: windows of ``measurement_request_count`` requests, fewer where these take
    longer than ``measurement_interval``."""
    measurement_interval: float = named_option(
        parse_number,
        "(ms of a window; default 5000, of short sessions 1000)",
        default=5000.0,
    )
    measurement_request_count: int = named_option(
        parse_whole, "(requests of a window; default 50)", default=50
    )
    stability_percentage: float = named_option(
        parse_number, "(by which three windows may differ; default 10)", default=10.0
    )

    @property
    def window_s(self) -> float:
        """Seconds of a window by time."""
        return self.measurement_interval / 1e3


OPTIONS = list_help(LoadOptions)
VARIABLES = list_variables(LoadOptions)
"""Environment variable of NVIDIA's scripts -> the option that it means."""


def read_load_options(
    given: Mapping[str, str],
    interval_ms: float = 5000.0,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> LoadOptions:
    """Return what the options say of the load; others are passed over.

    ``interval_ms``: of a window, where nobody chose. What is given wins over the
    environment. Raises ``ValueError``.
    """
    values = read_named(LoadOptions, given, environ)
    made = LoadOptions(**{"measurement_interval": interval_ms, **values})
    needed = {"request_rate_range", "latency_threshold"}
    if made.binary_search == "1" and not needed <= set(values):
        raise ValueError(
            "binary_search=1, but it should have request_rate_range and "
            "latency_threshold beside it"
        )
    return made
