"""How many queries survive stalls of the machine, against a simulated line."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.config.options import FAST_LIMIT_S
from pytest_mlperf.config.options import FAST_S
from pytest_mlperf.core.early_stopping import count_most_over
from pytest_mlperf.tuning.stall_room import MOST_TIMES
from pytest_mlperf.tuning.stall_room import SHORTEST_S
from pytest_mlperf.tuning.stall_room import STALL_EVERY_S
from pytest_mlperf.tuning.stall_room import STALL_S
from pytest_mlperf.tuning.stall_room import count_late_after_stall
from pytest_mlperf.tuning.stall_room import count_queries_for_stalls
from pytest_mlperf.tuning.stall_room import risk_of_more


def simulate(qps: float, load: float, room_s: float) -> int:
    """Count the late queries of an even stream whose server stands still at first."""
    service_s, free_s, late = load / qps, STALL_S, 0
    for number in range(int(qps * 60)):
        arrived_s = number / qps
        starts_s = max(arrived_s, free_s)
        late += starts_s - arrived_s > room_s
        free_s = starts_s + service_s
    return late


@given(qps=st.floats(5, 2000), load=st.floats(0.05, 0.9), room_s=st.floats(0.001, 0.4))
def test_the_late_queries_of_a_stall(qps: float, load: float, room_s: float) -> None:
    """The formula counts what a line of queries shows, within one or two."""
    late = count_late_after_stall(qps, load, room_s)

    assert late == pytest.approx(simulate(qps, load, room_s), abs=2)


@given(
    qps=st.floats(1, 5000),
    load=st.floats(0.05, 0.95),
    room_s=st.floats(0, 0.5),
    percentile=st.sampled_from([0.9, 0.97, 0.99]),
    duration_s=st.sampled_from([30.0, 60.0, 600.0]),
    limit_s=st.sampled_from([None, 70.0, 180.0]),
)
def test_the_queries_asked_allow_the_late_ones(
    qps: float,
    load: float,
    room_s: float,
    percentile: float,
    duration_s: float,
    limit_s: float | None,
) -> None:
    """Or fill the time that such a run may take at most."""
    asked = count_queries_for_stalls(qps, load, room_s, percentile, duration_s, limit_s)
    late = count_late_after_stall(qps, load, room_s)
    longest_s = min(duration_s * MOST_TIMES, limit_s or duration_s * MOST_TIMES)
    full = int(qps * longest_s)

    assert asked is None or qps * duration_s < asked <= full
    if full > qps * duration_s and asked != full:
        count = asked or int(qps * duration_s)
        assert (count_most_over(count + 1, percentile) or 0) >= late


def test_a_fast_run_of_twelve_queries_a_second_allows_two_stalls() -> None:
    """Of 4 late ones each; it ends before what ``--fast`` lets a run take."""
    asked = count_queries_for_stalls(11.9, 1 / 6, 0.0484, 0.99, FAST_S, FAST_LIMIT_S)

    assert asked == 1736
    assert count_most_over(asked, 0.99) == 8
    assert FAST_S < asked / 11.9 < FAST_LIMIT_S
    assert FAST_S * MOST_TIMES < FAST_LIMIT_S


def test_a_run_of_many_queries_is_not_made_twice_as_long() -> None:
    """One stall is enough for it: room for another would meet as many more."""
    asked = count_queries_for_stalls(47.4, 0.37, 0.04, 0.99, FAST_S, FAST_LIMIT_S)

    assert asked is not None
    assert FAST_S < asked / 47.4 < 75
    late = count_late_after_stall(47.4, 0.37, 0.04)
    assert (count_most_over(asked, 0.99) or 0) in {late, late + 1}


@pytest.mark.parametrize("seconds", [30.0, 60.0, 150.0, 600.0])
def test_the_risk_is_that_of_stalls_at_random(seconds: float) -> None:
    """Of 20,000 runs with exponential gaps between stalls."""
    draw = random.Random(5)
    more = [0] * 4
    for _ in range(20_000):
        at, met = draw.expovariate(1 / STALL_EVERY_S), 0
        while at < seconds and met < 5:
            at, met = at + draw.expovariate(1 / STALL_EVERY_S), met + 1
        for stalls in range(4):
            more[stalls] += met > stalls
    for stalls, count in enumerate(more):
        assert risk_of_more(stalls, seconds) == pytest.approx(count / 20_000, abs=0.02)


@pytest.mark.parametrize(("duration_s", "load"), [(SHORTEST_S - 1, 0.5), (60.0, 1.0)])
def test_some_runs_are_left_as_they_are(duration_s: float, load: float) -> None:
    """A short run cannot survive a stall, an overloaded one neither."""
    assert count_queries_for_stalls(100, load, 0.01, 0.99, duration_s) is None
