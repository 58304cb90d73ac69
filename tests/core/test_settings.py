"""From a round's rule to what LoadGen is asked for, and what is waived on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.config.options import Options
from pytest_mlperf.core import rounds
from pytest_mlperf.core.early_stopping import is_proof
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.plan import Shortening
from pytest_mlperf.core.plan import count_enough_queries
from pytest_mlperf.core.plan import plan_settings
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.run.preflight import check_disk
from pytest_mlperf.run.preflight import check_memory
from pytest_mlperf.run.preflight import check_time
from pytest_mlperf.run.preflight import planned_samples
from tests.support.doubles import rule_for

SCENARIOS = (
    Scenario.SINGLE_STREAM,
    Scenario.MULTI_STREAM,
    Scenario.OFFLINE,
    Scenario.SERVER,
)
FAST = Shortening(60_000, "--fast")
SEEDS = rounds.get("v6.1").seeds
ENOUGH = 50_000
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


def planned(
    scenario: Scenario = Scenario.OFFLINE,
    mode: Mode = Mode.PERFORMANCE,
    *,
    available: int = ENOUGH,
    shortening: Shortening | None = None,
) -> Settings:
    """Return the settings of a resnet50 run with a tuning."""
    stream = scenario in (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM)
    return plan_settings(
        rule_for(scenario),
        SEEDS,
        mode,
        available=available,
        shortening=shortening,
        target_qps=None if stream else 123.456,
        expected_latency_ns=1_500 if stream else None,
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_round_itself_waives_nothing(scenario: Scenario) -> None:
    """Without a shortening the settings are the rule's own numbers."""
    rule, made = rule_for(scenario), planned(scenario)

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
    made = planned(scenario, shortening=FAST)
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
    made = planned(Scenario.SINGLE_STREAM, shortening=shortening)
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
    made = planned(Scenario.SERVER, shortening=shortening)

    assert sorted(made.waived) == waived
    assert (made.min_duration_ms, made.min_query_count) == expected


def test_a_query_count_of_offline_is_samples() -> None:
    """Both of the round's counts are waived by name."""
    shortening = Shortening(None, "--mlperf-min-query-count 10", 10)
    made = planned(Scenario.OFFLINE, shortening=shortening)

    assert made.waived == dict.fromkeys(
        ("min_query_count", "min_sample_count"),
        "--mlperf-min-query-count 10: 10 instead of 24,576",
    )


@given(available=st.integers(1, 3000))
def test_a_small_dataset_waives_the_samples_in_memory(available: int) -> None:
    """LoadGen is asked for what there is, and the shortage is named."""
    made = planned(available=available)
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
    made = replace(planned(scenario, shortening=shortening), max_duration_ms=700_000)
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


FROM_CONFIG = """
import json, pathlib, sys
import mlperf_loadgen as lg
from pytest_mlperf.core import rounds
from pytest_mlperf.core.settings import Settings, Seeds
from pytest_mlperf.core.types import Mode, Scenario
from pytest_mlperf.sut.loadgen import loadgen_settings

folder = pathlib.Path(sys.argv[1])
for file in sorted(folder.glob("*.json")):
    fields = json.loads(file.read_text())
    fields["scenario"] = Scenario(fields["scenario"])
    fields["mode"] = Mode(fields["mode"])
    fields["seeds"] = Seeds(**fields["seeds"])
    settings = Settings(**fields)
    conf = file.with_suffix(".conf")
    conf.write_text(settings.user_conf())
    name = settings.scenario.loadgen
    plain = lg.TestSettings()
    code = plain.FromConfig(str(conf), settings.model, name, 2)
    made = loadgen_settings(settings, conf)
    file.with_suffix(".out").write_text(json.dumps({
        "code": code,
        "conf": {k: getattr(plain, k) for k in dir(plain)
                 if isinstance(getattr(plain, k), (int, float))},
        "made": {k: getattr(made, k) for k in dir(made)
                 if isinstance(getattr(made, k), (int, float))},
        "scenario": made.scenario.name, "mode": made.mode.name,
    }))
"""


@pytest.fixture(scope="module")
def understood(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What LoadGen makes of each scenario's settings, by ``scenario-mode``."""
    folder = tmp_path_factory.mktemp("confs")
    for scenario in SCENARIOS:
        for mode in Mode:
            made = planned(scenario, mode, available=270, shortening=FAST)
            fields = {
                name: getattr(made, name)
                for name in Settings.__dataclass_fields__
                if name != "seeds"
            }
            fields |= {
                "scenario": scenario.value,
                "mode": mode.value,
                "waived": dict(made.waived),
                "seeds": {"qsl": 2**64 - 1, "sample_index": 2**63, "schedule": 1},
            }
            path = folder / f"{scenario.value}-{mode.value}.json"
            path.write_text(json.dumps(fields))
    # A process of its own: LoadGen keeps a counter of configurations.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", FROM_CONFIG, str(folder)]
    subprocess.run(command, check=True, timeout=300, env=env)
    return {
        path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.out"))
    }


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_loadgen_reads_every_scenarios_user_conf(
    understood: dict[str, Any],
    scenario: Scenario,
    mode: Mode,
) -> None:
    """FromConfig takes the file and finds the numbers that were written into it."""
    found = understood[f"{scenario.value}-{mode.value}"]
    conf = found["conf"]

    assert found["code"] == 0
    assert conf["min_duration_ms"] == 60_000
    assert count_enough_queries(rule_for(scenario)) == conf["min_query_count"]
    assert conf["performance_sample_count_override"] == 270
    if scenario is Scenario.SERVER:
        assert conf["server_target_qps"] == 123.456
    elif scenario is Scenario.OFFLINE:
        assert conf["offline_expected_qps"] == 123.456
    else:
        prefix = "single" if scenario is Scenario.SINGLE_STREAM else "multi"
        assert conf[f"{prefix}_stream_expected_latency_ns"] == 1_500


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_test_settings_carry_what_the_round_fixes(
    understood: dict[str, Any],
    scenario: Scenario,
    mode: Mode,
) -> None:
    """Seeds of 64 bits, bound, percentile, scenario and mode, LoadGen's own or not."""
    found = understood[f"{scenario.value}-{mode.value}"]
    made = found["made"]

    assert scenario.value == found["scenario"]
    assert mode.loadgen == found["mode"]
    assert made["qsl_rng_seed"] == 2**64 - 1
    assert made["sample_index_rng_seed"] == 2**63
    assert made["schedule_rng_seed"] == 1
    assert made["min_duration_ms"] == 60_000
    assert made["max_duration_ms"] == 0
    assert made["accuracy_log_probability"] == 0.0
    if scenario is Scenario.SERVER:
        assert made["server_target_latency_ns"] == 15_000_000
        assert made["server_target_latency_percentile"] == 0.99
    if scenario is Scenario.MULTI_STREAM:
        assert made["multi_stream_samples_per_query"] == 8
        assert made["multi_stream_target_latency_percentile"] == 0.99
    if scenario is Scenario.SINGLE_STREAM:
        assert made["single_stream_target_latency_percentile"] == 0.9


def test_a_round_that_says_equal_issue_gets_it() -> None:
    """The rule's equal issue mode goes into the settings."""
    rule = replace(rule_for(Scenario.SERVER), equal_issue=True)

    assert plan_settings(rule, SEEDS, Mode.PERFORMANCE, available=ENOUGH).equal_issue
    assert not planned(Scenario.SERVER).equal_issue


def test_expected_time_follows_from_tuning_and_counts() -> None:
    """Offline asks for a tenth more; few queries a second take longer than asked."""
    slow = replace(planned(Scenario.SERVER), target_qps=0.1)

    assert pytest.approx(planned(Scenario.OFFLINE).expected_s) == 660
    assert planned(Scenario.SERVER).expected_s == 600
    assert slow.expected_s == 4590
    assert planned(Scenario.SINGLE_STREAM).expected_s == 600
    assert planned(Scenario.OFFLINE, Mode.ACCURACY).expected_s is None


def test_what_loadgen_will_issue_is_known_beforehand() -> None:
    """Offline by rate and slack, Server by rate, accuracy by the dataset."""
    offline, server = planned(Scenario.OFFLINE), planned(Scenario.SERVER)

    assert int(1.1 * 600 * 123.456) == planned_samples(offline, 270)
    assert int(600 * 123.456) == planned_samples(server, 270)
    assert planned_samples(planned(Scenario.SINGLE_STREAM), 270) is None
    assert planned_samples(planned(mode=Mode.ACCURACY), 270) == 270


def test_a_query_list_beyond_the_memory_is_refused_with_advice() -> None:
    """A stream of 1 ns latencies, or 10^12 samples/s, would be killed minutes later."""
    greedy = replace(planned(Scenario.SINGLE_STREAM), expected_latency_ns=1)
    absurd = replace(planned(Scenario.OFFLINE), target_qps=1e12)

    for asked in (greedy, absurd):
        with pytest.raises(RunRefused, match=r"GiB are free: shorten the run"):
            check_memory(asked)


def test_logs_beyond_the_disk_are_refused_with_advice(tmp_path: Path) -> None:
    """Answers are logged in hexadecimal digits; the folder need not be there yet."""
    folder, free = tmp_path / "a" / "b", shutil.disk_usage(tmp_path).free
    performance, accuracy = planned(), planned(mode=Mode.ACCURACY)
    check_disk(folder, accuracy, 4, 1000)
    check_disk(folder, performance, free, 1000)

    with pytest.raises(RunRefused, match=r"MiB are free at .*--mlperf-reports DIR"):
        check_disk(folder, accuracy, free, 1000)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_accuracy_run_is_not_refused_for_its_performance_run(
    scenario: Scenario,
) -> None:
    """Accuracy lists the dataset once, whatever rate or latency is expected."""
    made = planned(scenario, Mode.ACCURACY)
    asked = replace(made, target_qps=1e12, expected_latency_ns=1)
    check_memory(asked)

    assert planned_samples(asked, ENOUGH) == ENOUGH


def test_user_conf_is_a_file_that_python_numbers_do_not_break(tmp_path: Path) -> None:
    """Very small and very large numbers are written as LoadGen parses them."""
    import mlperf_loadgen

    path = tmp_path / "user.conf"
    for qps, latency in ((1e-7, 3), (1e17, 10**12)):
        server = replace(planned(Scenario.SERVER), target_qps=qps)
        path.write_text(server.user_conf())
        made = mlperf_loadgen.TestSettings()

        assert made.FromConfig(str(path), "resnet50", "Server", 2) == 0
        assert qps == made.server_target_qps

        single = replace(planned(Scenario.SINGLE_STREAM), expected_latency_ns=latency)
        path.write_text(single.user_conf())

        assert made.FromConfig(str(path), "resnet50", "SingleStream", 2) == 0
        assert latency == made.single_stream_expected_latency_ns


def test_the_expected_time_is_that_of_the_rate_that_was_measured() -> None:
    """LoadGen is told to expect more, so that its queries do not run out."""
    offline = replace(planned(Scenario.OFFLINE), answer_rate=100.0)
    stream = replace(planned(Scenario.MULTI_STREAM), answer_rate=0.5)
    listed = replace(
        planned(Scenario.SINGLE_STREAM), equal_issue=True, answer_rate=10.0,
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


def test_a_target_far_above_the_engine_is_what_to_lower() -> None:
    """No time limit would make sense of it."""
    made = replace(
        planned(Scenario.OFFLINE, shortening=FAST), target_qps=1e6, answer_rate=370.0
    )
    with pytest.raises(RunRefused) as refused:
        check_time(made, 180.0, "as given")
    text = str(refused.value)

    assert "a target_qps of 1e+06 asks for 66,000,000 samples" in text
    assert text.endswith("Lower --mlperf-target-qps to about 370, or omit it")


@pytest.mark.parametrize("limit_s", [None, 200.0, 199.0])
def test_a_run_that_takes_too_long_is_refused_before_it_begins(
    limit_s: float | None,
) -> None:
    """With what is expected and why, and what to type."""
    made = replace(planned(Scenario.SERVER, shortening=FAST), target_qps=459 / 200)
    if limit_s != 199.0:
        check_time(made, limit_s, "tuned so")
        return
    with pytest.raises(RunRefused) as refused:
        check_time(made, limit_s, "tuned so")
    text = str(refused.value)

    assert "about 200 s, but may take 199 s: 459 queries at 2.29/s" in text
    assert "early stopping needs 459 or more (tuned so)" in text
    assert "--mlperf-time-limit 300" in text


def test_a_shortened_run_may_take_three_minutes() -> None:
    """Or three times its duration; others have no limit but the user's own."""
    assert Options(duration=2.0).run_limit_s == 180
    assert Options(duration=100.0).run_limit_s == 300
    assert Options(duration=600.0).run_limit_s is None
    assert Options(fast=True).run_limit_s == 180
    assert Options(fast=True, time_limit=600.0).run_limit_s == 600
    assert Options(time_limit=60.0).run_limit_s == 60
    assert Options().run_limit_s is None
