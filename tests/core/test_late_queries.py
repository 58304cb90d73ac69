"""Whether a run can still be VALID, against LoadGen's rules and its own schedule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.core.early_stopping import is_proof
from pytest_mlperf.core.late_queries import LatencySoFar
from pytest_mlperf.core.late_queries import count_most_late
from pytest_mlperf.core.late_queries import count_most_queries
from pytest_mlperf.core.types import Scenario
from tests.support.server_settings import SERVER


@given(st.integers(1, 5000), st.integers(0, 200), st.sampled_from([0.9, 0.99]))
def test_what_is_given_up_is_invalid_in_every_end(
    queries: int, late: int, percentile: float
) -> None:
    """More late ones than it allows fail a rule; a longer run allows no fewer."""
    most = count_most_late(queries, percentile, must_prove=True)
    lenient = count_most_late(queries, percentile, must_prove=False)
    at_percentile = queries - int(queries * percentile)  # queries from that place on

    assert most <= lenient <= count_most_late(queries + 1, percentile, must_prove=False)
    if late > most:
        assert late >= at_percentile or not is_proof(queries, late, percentile)
    if late > lenient:
        assert late >= at_percentile


@given(st.integers(0, 2**32 - 1))
def test_no_schedule_has_more_queries_than_the_most(seed: int) -> None:
    """Exponential gaps, as LoadGen draws them, until the duration is over."""
    gaps = np.random.default_rng(seed).exponential(1 / 1000.0, 12_000)
    most = count_most_queries(SERVER)

    assert most is not None
    assert np.searchsorted(gaps.cumsum(), 10.0) < most < 11_000


def test_the_most_queries_follow_the_longer_of_count_and_duration() -> None:
    """With equal issue all that is listed; outside Server nothing bounds the count."""
    equal = count_most_queries(replace(SERVER, equal_issue=True))

    assert count_most_queries(replace(SERVER, min_query_count=50_000)) == 50_000
    assert equal is not None
    assert equal > 20_064
    assert count_most_queries(replace(SERVER, target_qps=None)) is None
    assert count_most_queries(replace(SERVER, scenario=Scenario.OFFLINE)) is None


def test_a_latency_says_where_it_stands() -> None:
    """Its limit beside it, and why all is lost."""
    good = LatencySoFar("latency", 0.99, 12_340_000, 15_000_000, 3, 3, 900)
    lost = replace(good, late=4)

    assert str(good) == "p99 12.3 of 15 ms"
    assert (good.is_lost, lost.is_lost) == (False, True)
    assert lost.describe_loss() == (
        "4 queries or more are late (p99 12.3 of 15 ms), and of at most 900 no more "
        "than 3 may be"
    )
