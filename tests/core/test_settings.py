"""From a round's rule to what LoadGen is asked for, and what is waived on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.core import rounds
from pytest_mlperf.core.early_stopping import is_proof
from pytest_mlperf.core.plan import Shortening
from pytest_mlperf.core.plan import plan_settings
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from tests.support.doubles import rule_for
from tests.support.run_settings import ENOUGH
from tests.support.run_settings import FAST
from tests.support.run_settings import SCENARIOS
from tests.support.run_settings import SEEDS
from tests.support.run_settings import plan_resnet50

LEAST = dict(zip(SCENARIOS, (64, 662, 1, 459), strict=True))
"""Queries that early stopping takes: p90 of a stream, p99, none, p99 under a bound."""

FREE = {
    "min_duration",
    "max_duration",
    "min_query_count",
    "performance_sample_count_override",
    "target_qps",
    "target_latency",
    "coalesce_queries",
}
"""Keys of ours that a submission may override; Server's target_latency is not one."""


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_round_itself_waives_nothing(scenario: Scenario) -> None:
    """Without a shortening the settings are the rule's own numbers."""
    rule, made = rule_for(scenario), plan_resnet50(scenario)

    assert made.waived == {}
    assert rule.min_duration_ms == made.min_duration_ms == 600_000
    assert (
        max(rule.min_query_count, rule.min_sample_count, LEAST[scenario])
        == made.min_query_count
    )
    assert rule.performance_sample_count == made.performance_sample_count == 1024
    assert rule.samples_per_query == made.samples_per_query
    assert rule.target_latency_ns == made.target_latency_ns
    assert rule.percentile == made.percentile


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_fast_waives_duration_and_count_in_words(scenario: Scenario) -> None:
    """Each waiver names the option, what is given and what the round asks."""
    made = plan_resnet50(scenario, shortening=FAST)
    expected = {"min_duration": "--fast: 60 s instead of 600 s"}
    queries = LEAST[scenario]
    if scenario is Scenario.SINGLE_STREAM:
        expected["min_query_count"] = "--fast: 64 instead of 100"
    if scenario is Scenario.OFFLINE:
        text = "--fast: 1 instead of 24,576"
        expected |= {"min_query_count": text, "min_sample_count": text}

    assert expected == made.waived
    assert (made.min_duration_ms, made.min_query_count) == (60_000, queries)


@pytest.mark.parametrize("name", rounds.ROUNDS)
@pytest.mark.parametrize("shortening", [None, FAST, Shortening(2000, "2 s")])
def test_no_run_is_too_short_for_early_stopping(
    name: str, shortening: Shortening | None
) -> None:
    """Every scenario with a percentile asks what proves it, however slow the system."""
    found = rounds.get(name)
    for rule in found.rules:
        made = plan_settings(
            rule, found.seeds, Mode.PERFORMANCE, available=1, shortening=shortening
        )
        late = int("Stream" in rule.scenario.value)  # an estimate takes one
        queries = made.min_query_count

        assert rule.percentile is None or is_proof(queries, late, rule.percentile)


@pytest.mark.parametrize("scenario", [Scenario.SERVER, Scenario.INTERACTIVE])
def test_a_shortened_llm_run_still_asks_enough_to_be_valid(scenario: Scenario) -> None:
    """Early stopping proves nothing with fewer than 459 queries, however long."""
    rule = rounds.get("v6.1").find("llama3.1-8b", "", scenario)
    assert rule is not None
    made = plan_settings(
        rule, SEEDS, Mode.PERFORMANCE, available=20, shortening=FAST, target_qps=4.0
    )

    assert made.min_query_count == 459
    assert "min_query_count" not in made.waived
    assert made.expected_s == 459 / 4.0


@given(duration_ms=st.integers(1, 2_000_000))
@example(duration_ms=599_999)
@example(duration_ms=600_000)
def test_only_a_shorter_run_waives_anything(duration_ms: int) -> None:
    """A duration of the round's or above changes nothing, below it waives both."""
    shortening = Shortening(duration_ms, "--mlperf-duration")
    made = plan_resnet50(Scenario.SINGLE_STREAM, shortening=shortening)
    shorter = duration_ms < 600_000

    assert shorter == ("min_duration" in made.waived)
    assert shorter == ("min_query_count" in made.waived)
    assert min(duration_ms, 600_000) == made.min_duration_ms
    assert (64 if shorter else 100) == made.min_query_count


@pytest.mark.parametrize(
    ("duration_ms", "count", "waived", "expected"),
    [
        (None, 50, ["min_query_count"], (600_000, 50)),
        (None, 500, [], (600_000, 500)),
        (5000, 50, ["min_duration", "min_query_count"], (5000, 50)),
        (5000, 500, ["min_duration"], (5000, 500)),
    ],
)
def test_a_query_count_is_asked_for_as_it_is(
    duration_ms: int | None, count: int, waived: list[str], expected: tuple[int, int]
) -> None:
    """Below the round's 100 it is waived; above it the run only takes longer."""
    shortening = Shortening(duration_ms, "--mlperf-min-query-count", count)
    made = plan_resnet50(Scenario.SERVER, shortening=shortening)

    assert sorted(made.waived) == waived
    assert (made.min_duration_ms, made.min_query_count) == expected


def test_a_query_count_of_offline_is_samples() -> None:
    """Both of the round's counts are waived by name."""
    shortening = Shortening(None, "--mlperf-min-query-count 10", 10)
    made = plan_resnet50(Scenario.OFFLINE, shortening=shortening)

    assert made.waived == dict.fromkeys(
        ("min_query_count", "min_sample_count"),
        "--mlperf-min-query-count 10: 10 instead of 24,576",
    )


@given(available=st.integers(1, 3000))
def test_a_small_dataset_waives_the_samples_in_memory(available: int) -> None:
    """LoadGen is asked for what there is, and the shortage is named."""
    made = plan_resnet50(available=available)
    expected = {}
    if available < 1024:
        text = f"runs draw from {available:,} samples instead of 1,024"
        expected["performance_sample_count"] = text

    assert expected == made.waived
    assert min(available, 1024) == made.performance_sample_count


@pytest.mark.parametrize("name", rounds.ROUNDS)
def test_the_seeds_are_those_of_the_round(name: str) -> None:
    """Each round's own seeds go through unchanged, and no two rounds share them."""
    found = rounds.get(name)
    made = plan_settings(found.rules[0], found.seeds, Mode.PERFORMANCE, available=1)
    others = [rounds.get(other).seeds for other in rounds.ROUNDS if other != name]

    assert found.seeds == made.seeds
    assert found.seeds not in others


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("shortening", [None, FAST])
def test_user_conf_holds_only_what_a_submission_may_override(
    scenario: Scenario, shortening: Shortening | None
) -> None:
    """Every line is a free key of this model and scenario, or a comment."""
    made = replace(
        plan_resnet50(scenario, shortening=shortening), max_duration_ms=700_000
    )
    lines = made.user_conf().splitlines()
    keys = [line.split(" = ")[0] for line in lines if not line.startswith("#")]
    free = FREE - ({"target_latency"} if scenario is Scenario.SERVER else set())

    assert keys
    assert {f"resnet50.{scenario.value}"} == {key.rpartition(".")[0] for key in keys}
    assert {key.rpartition(".")[2] for key in keys} <= free
    assert all(line.isascii() for line in lines)
    assert len(made.waived) == sum(line.startswith("# waived: ") for line in lines)


def test_server_hands_over_late_queries_together_unless_tokens_are_timed() -> None:
    """A service's users ask one by one; an engine's batch takes what is due."""
    for name in rounds.ROUNDS:
        for rule in rounds.get(name).rules:
            made = plan_settings(
                rule, rounds.get(name).seeds, Mode.PERFORMANCE, available=1
            )
            server = rule.scenario is Scenario.SERVER and not rule.use_token_latencies

            assert server == made.coalesce
            assert server == ("Server.coalesce_queries = 1" in made.user_conf())


def test_a_round_that_says_equal_issue_gets_it() -> None:
    """The rule's equal issue mode goes into the settings."""
    rule = replace(rule_for(Scenario.SERVER), equal_issue=True)

    assert plan_settings(rule, SEEDS, Mode.PERFORMANCE, available=ENOUGH).equal_issue
    assert not plan_resnet50(Scenario.SERVER).equal_issue


def test_expected_time_follows_from_tuning_and_counts() -> None:
    """Offline asks for a tenth more; few queries a second take longer than asked."""
    slow = replace(plan_resnet50(Scenario.SERVER), target_qps=0.1)

    assert pytest.approx(plan_resnet50(Scenario.OFFLINE).expected_s) == 660
    assert plan_resnet50(Scenario.SERVER).expected_s == 600
    assert slow.expected_s == 4590
    assert plan_resnet50(Scenario.SINGLE_STREAM).expected_s == 600
    assert plan_resnet50(Scenario.OFFLINE, Mode.ACCURACY).expected_s is None


def test_the_expected_time_is_that_of_the_rate_that_was_measured() -> None:
    """LoadGen is told to expect more, so that its queries do not run out."""
    offline = replace(plan_resnet50(Scenario.OFFLINE), answer_rate=100.0)
    stream = replace(plan_resnet50(Scenario.MULTI_STREAM), answer_rate=0.5)
    listed = replace(
        plan_resnet50(Scenario.SINGLE_STREAM), equal_issue=True, answer_rate=10.0,
        expected_latency_ns=10**8,
    )  # fmt: skip

    assert offline.expected_s == pytest.approx(1.1 * 600 * 123.456 / 100)
    assert stream.expected_s == 662 / 0.5
    assert listed.expected_s == 2 * 600 / 0.1 / 10


def test_a_load_may_need_more_queries_unless_the_user_said_how_many() -> None:
    """662 queries allow a late one."""
    rule = rule_for(Scenario.SERVER)
    counts = [
        plan_settings(
            rule, SEEDS, Mode.PERFORMANCE, available=1, shortening=one, queries=662
        ).min_query_count
        for one in (None, FAST, Shortening(None, "--mlperf-min-query-count 500", 500))
    ]

    assert counts == [662, 662, 500]
