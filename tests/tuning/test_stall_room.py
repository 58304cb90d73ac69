"""How many queries survive a stall of the machine, against a simulated line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.core.early_stopping import count_most_over
from pytest_mlperf.tuning.stall_room import MOST_TIMES
from pytest_mlperf.tuning.stall_room import SHORTEST_S
from pytest_mlperf.tuning.stall_room import STALL_S
from pytest_mlperf.tuning.stall_room import count_late_after_stall
from pytest_mlperf.tuning.stall_room import count_queries_for_stall


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
)
def test_the_queries_asked_allow_the_late_ones(
    qps: float, load: float, room_s: float, percentile: float, duration_s: float
) -> None:
    """Or fill the time that such a run may take at most."""
    asked = count_queries_for_stall(qps, load, room_s, percentile, duration_s)
    late = count_late_after_stall(qps, load, room_s)
    count = asked or int(qps * duration_s)

    assert count <= qps * duration_s * MOST_TIMES
    if asked is None or asked < int(qps * duration_s * MOST_TIMES):
        assert (count_most_over(count + 1, percentile) or 0) >= late


@pytest.mark.parametrize(("duration_s", "load"), [(SHORTEST_S - 1, 0.5), (60.0, 1.0)])
def test_some_runs_are_left_as_they_are(duration_s: float, load: float) -> None:
    """A short run cannot survive a stall, an overloaded one neither."""
    assert count_queries_for_stall(100, load, 0.01, 0.99, duration_s) is None
