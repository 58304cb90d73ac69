"""Requests at a rate: constant or Poisson, and the search for the highest one.

Requests are sent when they are due, whatever is outstanding, and a latency counts from
then. A trial is three windows without a pause between them. A request belongs to the
window in which it was due, however late its answer comes: none is dropped. An answer
counts for the rate of the window in which it came. Three windows that do not agree are
measured once more, three times at most.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from pytest_mlperf.config.load_options import LoadOptions
from pytest_mlperf.measure.batching import LEAST_REQUESTS
from pytest_mlperf.measure.batching import STABLE_WINDOWS
from pytest_mlperf.measure.batching import Time
from pytest_mlperf.measure.batching import average_steps
from pytest_mlperf.measure.batching import count_requests
from pytest_mlperf.measure.batching import find_percentile
from pytest_mlperf.measure.batching import is_stable
from pytest_mlperf.reporting.deployment_table import PERCENTILES
from pytest_mlperf.reporting.deployment_table import LoadFigures
from pytest_mlperf.runner.batch_times import BatchLoad
from pytest_mlperf.runner.batch_times import BatchTimes

MOST_TRIALS = 3


@dataclass(frozen=True, slots=True)
class RateWindow:
    """A window of requests that came at a rate."""

    seconds: tuple[float, ...]
    """Latencies of the requests that were due in it."""
    answers: int
    """That came in it."""
    length_s: float

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.answers / self.length_s


def cut_windows(times: BatchTimes, ends: Sequence[float]) -> list[RateWindow]:
    """Return the windows that end at ``ends`` (seconds from the first request on).

    The last window also has the requests that were due after its end.
    """
    begins = [0.0, *ends[:-1]]
    pairs = list(zip(times.due, times.seconds, strict=True))
    windows = []
    for begin, end in zip(begins, ends, strict=True):
        is_last = end == ends[-1]
        windows.append(
            RateWindow(
                tuple(s for due, s in pairs if begin <= due and (is_last or due < end)),
                sum(begin <= due + s < end for due, s in pairs),
                end - begin,
            )
        )
    return windows


def end_windows(due: Sequence[float], count: int, rate: float) -> list[float]:
    """Return when windows of ``count`` requests end: as the next one's first is due."""
    after = due[-1] + 1 / rate
    return [
        (*due, after)[min(n * count, len(due))] for n in range(1, STABLE_WINDOWS + 1)
    ]


def measure_rate(
    time: Time, size: int, rate: float, options: LoadOptions
) -> LoadFigures:
    """Return the figures of requests of ``size`` samples that come at a rate."""
    is_poisson = options.request_distribution == "poisson"
    count = count_requests(options, rate, LEAST_REQUESTS)
    time(BatchLoad(size, LEAST_REQUESTS))  # warms up
    load = BatchLoad(size, STABLE_WINDOWS * count, 1, rate, is_poisson)
    for _ in range(MOST_TRIALS):
        times = time(load)
        windows = cut_windows(times, end_windows(times.due, count, rate))
        if agree := is_stable(windows, options):
            break
    latencies = sorted(times.seconds)
    answers = sum(one.answers for one in windows)
    return LoadFigures(
        batch=size,
        per_s=size * answers / sum(one.length_s for one in windows),
        steps_ms=average_steps([times], fmean(latencies) * 1e3),
        percentiles_ms={q: find_percentile(latencies, q) * 1e3 for q in PERCENTILES},
        is_stable=agree,
        concurrency=0,
        request_rate=rate,
    )


def search_rates(
    measure: Callable[[float], LoadFigures], options: LoadOptions
) -> list[LoadFigures]:
    """Return figures of the range's rates, in the order in which they were measured.

    One after another up to the first whose latency is above its threshold; or, by
    ``binary_search``, halving the range until the highest rate below it is known to a
    step.
    """
    rates = options.request_rate_range
    assert rates is not None, "read_load_options gives one"
    found: list[LoadFigures] = []
    if options.binary_search != "1":
        for rate in rates:
            found.append(measure(rate))
            if found[-1].is_above(options):
                break
        return found
    low, high = rates.start, rates.end
    for rate in (low, high):
        found.append(measure(rate))
        if found[-1].is_above(options) == (rate == low):
            return found  # none is below the threshold, or every one
    while high - low > rates.step:
        middle = (low + high) / 2
        found.append(measure(middle))
        low, high = (low, middle) if found[-1].is_above(options) else (middle, high)
    return found
