"""Early stopping against its tables, its definition and LoadGen's own reports."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from scipy.special import betainc
from scipy.stats import binom

from pytest_mlperf.core.early_stopping import beta
from pytest_mlperf.core.early_stopping import count_discarded
from pytest_mlperf.core.early_stopping import count_late_range
from pytest_mlperf.core.early_stopping import count_most_over
from pytest_mlperf.core.early_stopping import count_queries_needed
from pytest_mlperf.core.early_stopping import is_proof

OVER = (0, 1, 2, 3, 5, 10, 20, 50, 100, 1000)
NEEDED = {
    0.90: (44, 64, 81, 97, 127, 197, 325, 681, 1246, 10722),
    0.95: (90, 130, 165, 198, 259, 398, 656, 1372, 2504, 21483),
    0.97: (152, 219, 277, 332, 433, 667, 1097, 2293, 4182, 35831),
    0.99: (459, 662, 838, 1001, 1307, 2010, 3304, 6898, 12571, 107569),
    0.999: (4603, 6636, 8403, 10042, 13105, 20140, 33097, 69058, 125826, 1076032),
}
PERCENTILES = st.sampled_from(sorted(NEEDED))
LONG = [
    (0.9, 4_096, 42_397),
    (0.9, 20_000, 203_145),
    (0.9, 100_000, 1_007_003),
    (0.9, 300_000, 3_012_112),
    (0.95, 4_096, 84_871),
    (0.95, 20_000, 406_462),
    (0.95, 100_000, 2_014_389),
    (0.95, 300_000, 6_024_887),
    (0.97, 4_096, 141_503),
    (0.97, 20_000, 677_549),
    (0.97, 100_000, 3_357_566),
    (0.97, 300_000, 10_041_913),
    (0.99, 4_096, 424_662),
    (0.99, 20_000, 2_032_982),
    (0.99, 100_000, 10_073_443),
    (0.99, 300_000, 30_127_027),
    (0.999, 4_096, 4_247_298),
    (0.999, 20_000, 20_331_308),
]


def effective_percentile(queries: int, percentile: float) -> float | None:
    """Return the percentile that a stream's estimate really is; None without one."""
    most = count_most_over(queries, percentile)
    return None if not most else (queries - most + 1) / queries


@pytest.mark.parametrize("percentile", sorted(NEEDED))
def test_needed_queries_are_those_of_loadgen(percentile: float) -> None:
    """The table was read off LoadGen's early stopping."""
    found = tuple(count_queries_needed(over, percentile) for over in OVER)

    assert found == NEEDED[percentile]


@pytest.mark.parametrize(
    ("queries", "percentile", "expected"),
    [
        (904, 0.9, 68),
        (876, 0.99, 1),
        (14246, 0.99, 114),
        (1024, 0.9, 79),
        (24576, 0.9, 2347),
        (270336, 0.99, 2582),
    ],
)
def test_estimates_leave_out_what_loadgen_leaves_out(
    queries: int, percentile: float, expected: int
) -> None:
    """Counts from real runs: 'Would discard N highest latency queries'."""
    assert count_discarded(queries, percentile) == expected


def test_no_estimate_below_the_least_number_of_queries() -> None:
    """63 queries are too few for the 90th percentile, 64 are enough."""
    assert count_discarded(63, 0.9) is None
    assert count_discarded(64, 0.9) == 0
    assert effective_percentile(63, 0.9) is None
    assert effective_percentile(64, 0.9) == 1.0


@pytest.mark.parametrize(("percentile", "over", "expected"), LONG)
def test_needed_queries_of_long_runs_are_those_of_loadgen(
    percentile: float, over: int, expected: int
) -> None:
    """Tens of millions of queries: the output of LoadGen's own early_stopping.cc."""
    assert expected == count_queries_needed(over, percentile)


def exact(over: int, queries: int, percentile: float) -> Fraction:
    """Return P[Binomial(queries, 1 - percentile) <= over] without rounding."""
    late = 1 - Fraction(str(percentile))
    terms = (
        math.comb(queries, k) * late**k * (1 - late) ** (queries - k)
        for k in range(over + 1)
    )
    return sum(terms, Fraction(0))


@given(st.integers(0, 6), PERCENTILES)
@settings(max_examples=25)
def test_needed_is_the_first_count_that_exact_arithmetic_admits(
    over: int, percentile: float
) -> None:
    """At N the chance of so few late ones is under 1 %; at N - 1 it is not."""
    needed = count_queries_needed(over, percentile)

    assert exact(over, needed, percentile) < Fraction(1, 100)
    assert exact(over, needed - 1, percentile) >= Fraction(1, 100)


@given(st.integers(0, 100_000), PERCENTILES)
def test_needed_is_the_first_count_that_the_binomial_admits(
    over: int, percentile: float
) -> None:
    """The same of any number of late ones, by scipy's binomial distribution."""
    needed = count_queries_needed(over, percentile)

    assert binom.cdf(over, needed, 1 - percentile) < 0.01
    assert binom.cdf(over, needed - 1, 1 - percentile) >= 0.01


@given(st.integers(0, 100_000), PERCENTILES)
def test_more_late_ones_and_higher_percentiles_need_more_queries(
    over: int, percentile: float
) -> None:
    """N(t, p) rises with t, by more than the queries that are late, and with p."""
    higher = [p for p in sorted(NEEDED) if p >= percentile]
    needed = [count_queries_needed(over, p) for p in higher]

    assert (
        count_queries_needed(over + 1, percentile)
        > count_queries_needed(over, percentile) + 1
    )
    assert all(low < high for low, high in pairwise(needed))
    assert over / needed[0] < 1 - percentile


@given(st.integers(1, 10**7), st.integers(0, 10**6), PERCENTILES)
def test_a_proof_survives_more_queries_and_fewer_late_ones(
    queries: int, over: int, percentile: float
) -> None:
    """What is proved stays proved when the added queries are in time."""
    over = min(over, queries)
    if is_proof(queries, over, percentile):
        assert queries >= count_queries_needed(over, percentile)
        assert is_proof(queries + 1, over, percentile)
        assert over == 0 or is_proof(queries, over - 1, percentile)
    else:
        assert queries < count_queries_needed(over, percentile)


@given(st.integers(44, 5_000_000), PERCENTILES)
def test_most_late_ones_and_needed_queries_are_inverse(
    queries: int, percentile: float
) -> None:
    """The largest passing count passes and the next one does not."""
    most = count_most_over(queries, percentile)

    if most is None:
        assert queries < count_queries_needed(0, percentile)
    else:
        assert count_queries_needed(most, percentile) <= queries
        assert queries < count_queries_needed(most + 1, percentile)


@given(st.integers(44, 10**7), PERCENTILES)
def test_a_streams_estimate_leaves_out_all_it_may(
    queries: int, percentile: float
) -> None:
    """One more left out would not be proved, and the share left stays above p."""
    left_out = count_discarded(queries, percentile)
    effective = effective_percentile(queries, percentile)

    if queries < count_queries_needed(1, percentile):
        assert left_out is None
        assert effective is None
    else:
        assert left_out is not None
        assert effective is not None
        assert count_queries_needed(left_out + 1, percentile) <= queries
        assert queries < count_queries_needed(left_out + 2, percentile)
        assert percentile < effective <= 1
        assert effective == pytest.approx((queries - left_out) / queries)


@given(st.floats(0, 1), st.integers(1, 10**7), st.integers(1, 10**6))
def test_beta_is_the_regularised_incomplete_beta(p: float, a: int, b: int) -> None:
    """Equal to scipy's, wherever the fraction is turned round."""
    assert beta(p, a, b) == pytest.approx(betainc(a, b, p), rel=1e-6, abs=1e-9)


@given(st.integers(10**6, 10**7), st.floats(-4, 4), PERCENTILES)
def test_beta_is_stable_for_ten_million_queries(
    queries: int, deviations: float, percentile: float
) -> None:
    """Around the mean, where early stopping decides, six digits are scipy's."""
    late = queries * (1 - percentile)
    over = max(0, int(late + deviations * math.sqrt(late * percentile)))
    under = queries - over

    assert beta(percentile, under, over + 1) == pytest.approx(
        betainc(under, over + 1, percentile), rel=1e-6
    )


@given(
    st.lists(st.integers(0, 100), min_size=1, max_size=400),
    st.integers(0, 100),
    st.sets(st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.97, 0.99, 0.999, 1.0])),
)
def test_percentiles_enclose_the_number_of_late_ones(
    latencies: list[int], bound: int, shares: set[float]
) -> None:
    """However few percentiles are known, the truth is between fewest and most."""
    taken, count = sorted(latencies), len(latencies)
    points = {p: taken[min(int(count * p), count - 1)] for p in shares}
    fewest, most = count_late_range(count, points, bound)

    assert 0 <= fewest <= sum(x > bound for x in latencies) <= most <= count
    if not points:
        assert (fewest, most) == (0, count)


def test_all_queries_late_prove_nothing() -> None:
    """No number of late queries shows that a percentile holds."""
    assert not is_proof(10_000, 10_000, 0.99)
    assert not is_proof(0, 0, 0.99)


def test_a_very_long_run_is_judged_at_once() -> None:
    """Six hundred million queries neither overflow nor run away."""
    most = count_most_over(600_000_000, 0.99)

    assert most is not None
    assert 5_990_000 < most < 6_000_000
