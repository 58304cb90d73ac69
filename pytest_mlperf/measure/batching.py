"""Static and dynamic batching as perf_analyzer measures it: windows until three agree.

Static: one request is outstanding at a time. Dynamic: several are, and the server makes
batches of them. A window has a number of requests and ends with an answer; what is
outstanding then is waited for, and belongs to no window. The figures are those of the
last three windows. Requests at a rate are ``measure.request_rate``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from statistics import fmean
from typing import Protocol

from pytest_mlperf.config.load_options import LoadOptions
from pytest_mlperf.core.latency_breakdown import CLIENT_WAIT
from pytest_mlperf.core.latency_breakdown import COLUMNS
from pytest_mlperf.reporting.deployment_table import PERCENTILES
from pytest_mlperf.reporting.deployment_table import LoadFigures
from pytest_mlperf.runner.batch_times import BatchLoad
from pytest_mlperf.runner.batch_times import BatchTimes

LEAST_REQUESTS = 3
"""Of a window, however long they take."""
STABLE_WINDOWS = 3
"""So many windows in a row lie within a share of their mean, in rate and latency."""
MOST_WINDOWS = 10
REQUESTS_EACH = 8
"""A window has so many requests for each that is outstanding, at least."""
MOST_OUTSTANDING, LEAST_GAIN = 256, 0.05
"""The search doubles what is outstanding until the rate rises by less than this."""


class LoadWindow(Protocol):
    """One window's latencies, and its answers a second."""

    @property
    def seconds(self) -> Sequence[float]: ...

    @property
    def per_s(self) -> float: ...


Time = Callable[[BatchLoad], BatchTimes]


def search_concurrency(
    measure: Callable[[int], LoadFigures],
    options: LoadOptions = LoadOptions(),  # noqa: B008 - frozen
) -> list[LoadFigures]:
    """Return figures of 1, 2, 4 … requests outstanding, until more of them bring no
    more samples a second, or the latency is above its threshold.
    """
    found = [measure(1)]
    while found[-1].concurrency < MOST_OUTSTANDING:
        if found[-1].is_above(options):
            break
        found.append(measure(2 * found[-1].concurrency))
        if found[-1].per_s < (1 + LEAST_GAIN) * found[-2].per_s:
            break
    return found


def count_requests(options: LoadOptions, per_s: float, least: int) -> int:
    """Return a window's requests, where so many a second are answered."""
    fitting = max(int(options.window_s * per_s), least)
    most = max(options.measurement_request_count, least)
    return {"time_windows": fitting, "count_windows": most}.get(
        options.measurement_mode, min(fitting, most)
    )


def measure_load(
    time: Time,
    size: int,
    options: LoadOptions = LoadOptions(),  # noqa: B008 - frozen
    concurrency: int = 1,
) -> LoadFigures:
    """Return the figures of one batch size.

    ``concurrency``: how many requests are outstanding.
    """
    least = LEAST_REQUESTS if concurrency == 1 else REQUESTS_EACH * concurrency
    # The first ones warm up, and say how many fit.
    per_s = time(BatchLoad(size, least, concurrency)).per_s
    load = BatchLoad(size, count_requests(options, per_s, least), concurrency)
    windows: list[BatchTimes] = []
    while len(windows) < MOST_WINDOWS and not is_stable(windows, options):
        windows.append(time(load))
    last = windows[-STABLE_WINDOWS:]
    latencies = sorted(s for window in last for s in window.seconds)
    return LoadFigures(
        batch=size,
        per_s=size * len(latencies) / sum(len(w.seconds) / w.per_s for w in last),
        steps_ms=average_steps(last, fmean(latencies) * 1e3),
        percentiles_ms={q: find_percentile(latencies, q) * 1e3 for q in PERCENTILES},
        is_stable=is_stable(windows, options),
        concurrency=concurrency,
    )


def is_stable(
    windows: Sequence[LoadWindow],
    options: LoadOptions = LoadOptions(),  # noqa: B008 - frozen
) -> bool:
    """Return whether the last three windows agree."""
    share = options.stability_percentage / 100
    if len(windows) < STABLE_WINDOWS:
        return False
    latencies = [fmean(one.seconds) for one in windows[-STABLE_WINDOWS:]]
    rates = [one.per_s for one in windows[-STABLE_WINDOWS:]]
    return all(
        abs(value - fmean(values)) <= share * fmean(values)
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
