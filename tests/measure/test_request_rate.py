"""Requests at a rate: windows of synthetic arrivals, and the search for a rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.config.load_options import LoadOptions
from pytest_mlperf.config.load_options import Range
from pytest_mlperf.config.load_options import read_load_options
from pytest_mlperf.core.latency_breakdown import COLUMNS
from pytest_mlperf.measure.request_rate import cut_windows
from pytest_mlperf.measure.request_rate import end_windows
from pytest_mlperf.measure.request_rate import measure_rate
from pytest_mlperf.measure.request_rate import search_rates
from pytest_mlperf.reporting.deployment_table import LoadFigures
from pytest_mlperf.reporting.deployment_table import format_results
from pytest_mlperf.runner.batch_times import BatchLoad
from pytest_mlperf.runner.batch_times import BatchTimes

GAPS = st.lists(st.floats(0.001, 1.0), min_size=9, max_size=60)


@given(GAPS, st.data())
def test_every_request_is_in_one_window(gaps: list[float], data: st.DataObject) -> None:
    """However late its answer is; answers after the last window count for no rate."""
    due = tuple(sum(gaps[:n]) for n in range(len(gaps)))
    one = st.lists(st.floats(0.0, 9.0), min_size=len(due), max_size=len(due))
    seconds = tuple(data.draw(one))
    count = len(due) // 3
    ends = end_windows(due, count, 2.0)
    windows = cut_windows(BatchTimes(seconds, due=due), ends)

    assert sorted(s for window in windows for s in window.seconds) == sorted(seconds)
    assert [len(one.seconds) for one in windows[:2]] == [count, count]
    in_time = sum(at + s < ends[-1] for at, s in zip(due, seconds, strict=True))
    assert sum(one.answers for one in windows) == in_time
    assert sum(one.length_s for one in windows) == pytest.approx(ends[-1])


def serve(load: BatchLoad) -> BatchTimes:
    """Answer requests one after another, each in 10 ms: a hundred a second."""
    if not load.rate:
        return BatchTimes((0.01,) * load.count)
    free, seconds, due = 0.0, [], load.draw_due()
    for at in due:
        free = max(free, at) + 0.01
        seconds.append(free - at)
    return BatchTimes(tuple(seconds), due=due)


@pytest.mark.parametrize(
    ("rate", "distribution", "answered", "p50_ms", "stable"),
    [
        (50, "constant", 50, 10, True),
        (95, "constant", 95, 10, True),
        (50, "poisson", 50, 15, None),
        (200, "constant", 100, 7500, False),
    ],
)
def test_a_rate_above_what_a_server_can_is_seen(
    rate: float,
    distribution: str,
    answered: float,
    p50_ms: float,
    stable: bool | None,
) -> None:
    """The answers a second stay, and latencies grow from one window to the next."""
    options = LoadOptions(
        request_distribution=distribution, measurement_mode="time_windows"
    )
    found = measure_rate(serve, 1, rate, options)

    assert found.per_s == pytest.approx(answered, rel=0.1)
    assert found.percentiles_ms[50] == pytest.approx(p50_ms, rel=0.35)
    assert stable is None or found.is_stable == stable
    assert found.request_rate == rate


def figure_of(rate: float) -> LoadFigures:
    """A server whose latency is a millisecond for every request a second."""
    steps = {**dict.fromkeys(COLUMNS, 0.0), "Server Compute Infer": rate}
    quantiles = dict.fromkeys((50, 90, 95, 99), rate * 1.5)
    return LoadFigures(1, rate, steps, quantiles, True, 0, rate)


@pytest.mark.parametrize(
    ("changes", "measured"),
    [
        ({"latency_threshold": "35"}, [10, 20, 30, 40]),
        ({"latency_threshold": "35", "percentile": "99"}, [10, 20, 30]),
        ({}, [*range(10, 101, 10)]),
        ({"latency_threshold": "5", "binary_search": "1"}, [10]),
        ({"latency_threshold": "500", "binary_search": "1"}, [10, 100]),
    ],
)
def test_a_range_ends_at_the_first_rate_above_the_threshold(
    changes: dict[str, str], measured: list[float]
) -> None:
    """Of the mean, or of a percentile; without a threshold at its end."""
    options = read_load_options({"request_rate_range": "10:100:10", **changes})
    found = search_rates(figure_of, options)

    assert [one.request_rate for one in found] == measured


@given(st.floats(1, 1000), st.floats(0.5, 50))
def test_halving_finds_the_highest_rate_below_the_threshold(
    threshold: float, step: float
) -> None:
    """To a step, in as many measurements as halvings."""
    options = LoadOptions(
        request_rate_range=Range(1, 1000, step),
        binary_search="1",
        latency_threshold=threshold,
    )
    found = search_rates(figure_of, options)
    kept = [one.request_rate for one in found if not one.is_above(options)]

    assert max(kept) <= threshold < max(kept) + step or max(kept) == 1000
    assert len(found) <= 2 + 11


@pytest.mark.parametrize(
    ("given_options", "problem"),
    [
        ({"request_rate_range": "0:10"}, "numbers above 0 such as 10:100:10"),
        ({"request_rate_range": "20:10:1"}, "an end of at least the start"),
        ({"request_distribution": "normal"}, "one of constant, poisson"),
        ({"binary_search": "1"}, "latency_threshold beside it"),
    ],
)
def test_a_wrong_option_says_what_is_legal(
    given_options: dict[str, str], problem: str
) -> None:
    """Name, value, and what it should be."""
    with pytest.raises(ValueError, match=problem):
        read_load_options(given_options)


def test_the_table_of_a_rate_says_so() -> None:
    """Its second column is perf_analyzer's Request Rate."""
    head, _, row = format_results([figure_of(20)]).splitlines()

    assert [cell.strip() for cell in head.split("|")][1:3] == ["Batch", "Request Rate"]
    assert [cell.strip() for cell in row.split("|")][1:4] == ["1", "20", "20.0"]
