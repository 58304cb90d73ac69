"""Early stopping against its tables, its definition and LoadGen's own reports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from scipy.special import betainc
from scipy.stats import binom

from pytest_mlperf.core.early_stopping import beta
from pytest_mlperf.core.early_stopping import discarded
from pytest_mlperf.core.early_stopping import effective_percentile
from pytest_mlperf.core.early_stopping import most_over
from pytest_mlperf.core.early_stopping import proves
from pytest_mlperf.core.early_stopping import queries_needed

OVER = (0, 1, 2, 3, 5, 10, 20, 50, 100, 1000)
NEEDED = {
    0.90: (44, 64, 81, 97, 127, 197, 325, 681, 1246, 10722),
    0.95: (90, 130, 165, 198, 259, 398, 656, 1372, 2504, 21483),
    0.97: (152, 219, 277, 332, 433, 667, 1097, 2293, 4182, 35831),
    0.99: (459, 662, 838, 1001, 1307, 2010, 3304, 6898, 12571, 107569),
    0.999: (4603, 6636, 8403, 10042, 13105, 20140, 33097, 69058, 125826, 1076032),
}
PERCENTILES = st.sampled_from(sorted(NEEDED))


@pytest.mark.parametrize("percentile", sorted(NEEDED))
def test_needed_queries_are_those_of_loadgen(percentile: float) -> None:
    """The table was read off LoadGen's early stopping."""
    found = tuple(queries_needed(over, percentile) for over in OVER)

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
    assert discarded(queries, percentile) == expected


def test_no_estimate_below_the_least_number_of_queries() -> None:
    """63 queries are too few for the 90th percentile, 64 are enough."""
    assert discarded(63, 0.9) is None
    assert discarded(64, 0.9) == 0
    assert effective_percentile(63, 0.9) is None
    assert effective_percentile(64, 0.9) == 1.0


@given(st.integers(0, 400), PERCENTILES)
@settings(deadline=None)
def test_needed_is_the_first_count_that_the_binomial_admits(
    over: int, percentile: float
) -> None:
    """At N the chance of so few late ones is under 1 %; at N - 1 it is not."""
    needed = queries_needed(over, percentile)

    assert binom.cdf(over, needed, 1 - percentile) < 0.01
    assert binom.cdf(over, needed - 1, 1 - percentile) >= 0.01


@given(st.integers(44, 5_000_000), PERCENTILES)
@settings(deadline=None)
def test_most_late_ones_and_needed_queries_are_inverse(
    queries: int, percentile: float
) -> None:
    """The largest passing count passes and the next one does not."""
    most = most_over(queries, percentile)

    if most is None:
        assert queries < queries_needed(0, percentile)
    else:
        assert queries_needed(most, percentile) <= queries
        assert queries < queries_needed(most + 1, percentile)


@given(st.floats(0, 1), st.integers(1, 10**6), st.integers(1, 10**5))
@settings(deadline=None)
def test_beta_is_the_regularised_incomplete_beta(p: float, a: int, b: int) -> None:
    """Equal to scipy's to nine digits, wherever the fraction is turned round."""
    assert beta(p, a, b) == pytest.approx(betainc(a, b, p), rel=1e-7, abs=1e-9)


def test_all_queries_late_prove_nothing() -> None:
    """No number of late queries shows that a percentile holds."""
    assert not proves(10_000, 10_000, 0.99)
    assert not proves(0, 0, 0.99)


def test_a_very_long_run_is_judged_at_once() -> None:
    """Six hundred million queries neither overflow nor run away."""
    most = most_over(600_000_000, 0.99)

    assert most is not None
    assert 5_990_000 < most < 6_000_000
