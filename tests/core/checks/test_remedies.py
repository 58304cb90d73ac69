"""The values to try next, held against what LoadGen makes of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.checks import remedies
from pytest_mlperf.core.checks.context import Context
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.early_stopping import AFFORDABLE
from pytest_mlperf.core.early_stopping import count_queries_needed
from pytest_mlperf.core.early_stopping import count_steady_queries
from pytest_mlperf.core.early_stopping import find_proven_percentile
from pytest_mlperf.core.early_stopping import is_proof
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from tests.support import logs
from tests.support import scripted

RATES = st.floats(0.01, 1e7)
DURATIONS = st.integers(100, 3_600_000)


def typed(value: float) -> float:
    """Return the number that a reader types."""
    return float(remedies.format_rate(value))


def loadgens_samples(qps: float, duration_ms: int, least: int) -> int:
    """Return the samples of Offline's query, as LoadGen sums them."""
    return max(least, int(1.1 * duration_ms / 1000 * qps))


@given(RATES, DURATIONS, st.integers(1, 30_000))
def test_offline_lasts_long_enough_at_the_rate_advised(
    actual: float, duration_ms: int, least: int
) -> None:
    """LoadGen's own sum of samples, answered at the measured rate, fills the time."""
    text = remedies.format_rate(
        remedies.choose_offline_qps(actual, duration_ms), math.ceil
    )
    samples = loadgens_samples(float(text), duration_ms, least)

    assert samples / actual >= duration_ms / 1000
    assert float(text) >= actual * (1 - 1e-9)


@given(
    asked=RATES,
    completed=st.floats(0.1, 1e7),
    scheduled=RATES,
    share=st.one_of(st.none(), st.floats(0, 1)),
)
def test_server_is_advised_a_lower_load(
    asked: float, completed: float, scheduled: float, share: float | None
) -> None:
    """Whatever the log says, the next load is below this one, and not nothing."""
    advised = remedies.choose_server_qps(asked, completed, scheduled, share, 0.01)

    assert 0 < typed(advised) < asked
    if remedies.has_backlog(completed, scheduled):
        assert typed(advised) < completed


@given(
    st.lists(st.integers(1_000, 10**10), min_size=1, max_size=200),
    st.sampled_from([0.9, 0.99]),
    st.integers(1_000, 600_000),
)
def test_a_stream_does_not_run_out_at_the_latency_advised(
    latencies: list[int], percentile: float, duration_ms: int
) -> None:
    """Twice the duration by the expected latency is more than the run answers."""
    taken = sorted(latencies)
    measured, mean = taken[int(len(taken) * percentile)], sum(taken) // len(taken)
    advised = remedies.choose_latency_ns(measured, mean)
    text = remedies.format_typed_ms(advised)
    expected_ns = float(text.removesuffix(" ms")) * 1e6
    made = 2 * duration_ms * 1e6 / expected_ns

    assert expected_ns <= measured
    assert made * mean >= duration_ms * 1e6


@given(st.integers(50, 10**6), st.integers(0, 10**4), st.sampled_from([0.9, 0.99]))
def test_a_longer_run_is_advised_only_where_it_would_prove_the_percentile(
    queries: int, over: int, percentile: float
) -> None:
    """As many late ones in the longer run are few enough, or none is advised."""
    over = min(over, queries)
    enough = count_steady_queries(queries, over, percentile)

    if enough is None:
        assert over > 0
    else:
        late = math.ceil(over / queries * enough)
        least = count_queries_needed(0, percentile)
        assert is_proof(enough, late, percentile)
        assert count_queries_needed(over, percentile) <= enough
        assert enough <= max(AFFORDABLE * queries, least)


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_what_is_proved_is_the_highest_percentile_that_is(
    queries: int, share: float
) -> None:
    """The percentile a run of Server proves is proved, and hardly a higher one."""
    over = int(queries * share)
    highest = find_proven_percentile(queries, over)

    assert highest == 0 or is_proof(queries, over, highest)
    assert not is_proof(queries, over, highest + 1e-9 + 1e-6 * (1 - highest))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "a fraction of a query"),
        (0.0012345, "0.00123"),
        (0.95, "0.950"),
        (12.345, "12.3"),
        (109.09, "109"),
        (123456.0, "123000"),
    ],
)
def test_a_rate_is_typed_with_three_digits(value: float, expected: str) -> None:
    """No separators and no exponent: it goes into user.conf as it stands."""
    assert expected == remedies.format_rate(value)


def a_run(folder: Path, scenario: str) -> JudgedRun:
    """Return a built log as evidence."""
    kind = Scenario.parse(scenario)
    rule = scripted.rule_of("resnet50", kind)
    table = rounds.get("v6.1")
    return JudgedRun(
        Log.read(folder), Cell(rule, "null"), Mode.PERFORMANCE, table, Context()
    )


LATE_NS = 17_000_000
DISTURBED = RunFacts(
    is_disturbed=True, texts={"other load": "1.62 of 2 CPUs (advised)"}
)


def advise(tmp_path: Path, latency_ns: int = LATE_NS, **context: Any) -> str:
    """Return the remedy of a Server run whose every query took so long, of 15 ms."""
    folder = logs.performance(
        tmp_path, "Server", latencies=[latency_ns] * 900 + [10**6]
    )
    run = replace(a_run(folder, "Server"), context=Context(**context))
    return remedies.advise_lower_load(run)


def test_a_lower_load_is_advised_by_whoever_judges_the_log(tmp_path: Path) -> None:
    """The probe's finding that none helps changes nothing of it."""
    plain = advise(tmp_path / "a")
    hopeless = "no load tried keeps 15 ms: at best 16.9 ms"
    probed = RunFacts(probed_share=16.9 / 15)

    assert plain.startswith("lower target_qps from ")
    assert "faster device" in plain
    assert advise(tmp_path / "b", hopeless=hopeless, run=probed) == plain


def test_contention_is_the_first_cause(tmp_path: Path) -> None:
    """What else ran is named before load and hardware, which follow."""
    advice = advise(tmp_path, run=DISTURBED)

    assert advice.startswith("other programs used 1.62 of 2 CPUs during the run: end")
    assert "; lower target_qps from " in advice
    assert advise(tmp_path / "quiet", run=RunFacts()).startswith("lower target_qps")


def test_a_burst_of_contention_is_a_cause_too(tmp_path: Path) -> None:
    """The mean over the run is small; an attached server's own load is no cause."""
    burst = RunFacts(others_share=0.01, others_peak=0.4, others_peak_at_s=41.2)
    advice = advise(tmp_path, run=burst)
    attached = advise(tmp_path / "attached", run=replace(burst, is_attached=True))

    assert advice.startswith("other programs used 40% of the CPUs for a second, 41 s")
    assert attached.startswith("lower target_qps")


def test_a_run_that_is_a_little_too_short_hears_of_the_burst_first(
    tmp_path: Path,
) -> None:
    """More queries help, and so does a quiet machine."""
    latencies = [10**6] * 3387 + [LATE_NS] * 22
    folder = logs.performance(tmp_path, "Server", latencies=latencies)
    burst = RunFacts(others_share=0.01, others_peak=0.4, others_peak_at_s=41.2)
    run = replace(a_run(folder, "Server"), context=Context(run=burst))
    needed = count_queries_needed(22, 0.99)
    advice = remedies.advise_for_percentile(run, 22, needed)

    assert advice.startswith("other programs used 40% of the CPUs for a second")
    assert "3,409 queries with 22 over the bound prove" in advice


@pytest.mark.parametrize(
    ("latency_ns", "probed_ns", "hopeless", "expected"),
    [
        (
            17_000_000,
            27_800_000,
            "at best 27.8 ms",
            "was busier in the probe",
        ),
        (17_000_000, 9_000_000, "", "was slower in the run"),
        (17_000_000, 16_900_000, "at best 16.9 ms", ""),
    ],
)
def test_a_probe_that_the_run_contradicts_is_the_second_cause(
    tmp_path: Path, latency_ns: int, probed_ns: int, hopeless: str, expected: str
) -> None:
    """One of the two met a disturbed machine."""
    facts = replace(DISTURBED, probed_share=probed_ns / 15_000_000)
    advice = advise(tmp_path, latency_ns, hopeless=hopeless, run=facts)
    causes = [advice.find(c) for c in ("other programs used", expected, "lower target")]

    assert causes == sorted(causes)
    assert causes[0] == 0
    assert ("113% in the run" in advice) is bool(expected)


def test_a_bound_that_the_fastest_answer_missed_is_the_hardwares(
    tmp_path: Path,
) -> None:
    """No load would help."""
    folder = logs.performance(tmp_path, "Server", latencies=[LATE_NS] * 900)
    advice = remedies.advise_lower_load(a_run(folder, "Server"))

    assert advice.startswith("no load meets this bound here: the fastest answer")
    assert "target_qps" not in advice
