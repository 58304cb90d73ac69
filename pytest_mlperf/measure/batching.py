"""Static and dynamic batching as perf_analyzer measures it: windows until three agree.

Static: one request is outstanding at a time. Dynamic: several are, and the server makes
batches of them. A window has a number of requests and ends with an answer; what is
outstanding then is waited for, and belongs to no window. The figures are those of the
last three windows.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from pytest_mlperf.core.latency_breakdown import CLIENT_WAIT
from pytest_mlperf.core.latency_breakdown import COLUMNS
from pytest_mlperf.runner.batch_times import BatchTimes

WINDOW_S, WINDOW_REQUESTS = 5.0, 50
"""perf_analyzer's ``--measurement-interval`` and ``--measurement-request-count``: a
window has so many requests, or fewer where they take longer."""
LEAST_REQUESTS = 3
STABLE_WINDOWS, STABILITY = 3, 0.1
"""So many windows in a row lie within this share of their mean, in rate and latency."""
MOST_WINDOWS = 10
PERCENTILES = (50, 90, 95, 99)
REQUESTS_EACH = 8
"""A window has so many requests for each that is outstanding, at least."""
MOST_OUTSTANDING, LEAST_GAIN = 256, 0.05
"""The search doubles what is outstanding until the rate rises by less than this."""


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """What requests of one size do; times are milliseconds."""

    batch: int
    per_s: float
    """Samples a second."""
    steps_ms: Mapping[str, float]
    """Column of perf_analyzer -> mean."""
    percentiles_ms: Mapping[int, float]
    is_stable: bool
    concurrency: int = 1
    """Requests outstanding."""

    @property
    def average_ms(self) -> float:
        """The sum of the steps, as perf_analyzer's tables have it."""
        return sum(self.steps_ms.values())


Time = Callable[[int, int], BatchTimes]
"""(samples of a request, requests) -> what they take."""


def search_concurrency(measure: Callable[[int], LoadFigures]) -> list[LoadFigures]:
    """Return figures of 1, 2, 4 … requests outstanding, until more of them bring no
    more samples a second.
    """
    found = [measure(1)]
    while found[-1].concurrency < MOST_OUTSTANDING:
        found.append(measure(2 * found[-1].concurrency))
        if found[-1].per_s < (1 + LEAST_GAIN) * found[-2].per_s:
            break
    return found


def measure_load(
    time: Time, size: int, window_s: float = WINDOW_S, concurrency: int = 1
) -> LoadFigures:
    """Return the figures of one batch size.

    ``concurrency``: how many requests ``time`` has outstanding.
    """
    least = LEAST_REQUESTS if concurrency == 1 else REQUESTS_EACH * concurrency
    first = time(size, least)  # warms up, and says how many fit
    fitting = int(window_s * first.per_s)
    count = min(max(fitting, least), max(WINDOW_REQUESTS, least))
    windows: list[BatchTimes] = []
    while len(windows) < MOST_WINDOWS and not is_stable(windows):
        windows.append(time(size, count))
    last = windows[-STABLE_WINDOWS:]
    latencies = sorted(s for window in last for s in window.seconds)
    return LoadFigures(
        batch=size,
        per_s=size * len(latencies) / sum(len(w.seconds) / w.per_s for w in last),
        steps_ms=average_steps(last, fmean(latencies) * 1e3),
        percentiles_ms={q: find_percentile(latencies, q) * 1e3 for q in PERCENTILES},
        is_stable=is_stable(windows),
        concurrency=concurrency,
    )


def is_stable(windows: Sequence[BatchTimes]) -> bool:
    """Return whether the last three windows agree."""
    if len(windows) < STABLE_WINDOWS:
        return False
    latencies = [fmean(one.seconds) for one in windows[-STABLE_WINDOWS:]]
    rates = [one.per_s for one in windows[-STABLE_WINDOWS:]]
    return all(
        abs(value - fmean(values)) <= STABILITY * fmean(values)
        for values in (latencies, rates)
        for value in values
    )


def average_steps(windows: Sequence[BatchTimes], latency_ms: float) -> dict[str, float]:
    """Return column -> mean milliseconds; all is computation where nobody tells more.

    perf_analyzer has no column for the client's own line: it is part of Client Send.
    """
    if not all(one.steps_us for one in windows):
        return {**dict.fromkeys(COLUMNS, 0.0), "Server Compute Infer": latency_ms}
    steps = {
        name: fmean(one.steps_us.get(name, 0.0) for one in windows) / 1e3
        for name in (CLIENT_WAIT, *COLUMNS)
    }
    wait = steps.pop(CLIENT_WAIT)
    return {**steps, "Client Send": steps["Client Send"] + wait}


def find_percentile(ordered: Sequence[float], percent: int) -> float:
    """Return the value at a rank, as LoadGen picks percentiles."""
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]
