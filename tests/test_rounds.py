"""The rounds as data, held against what the installed LoadGen carries."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from pytest_mlperf.core import rounds
from pytest_mlperf.core.rounds import AccuracyLimit
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.rounds import v5_1
from pytest_mlperf.core.rounds.family import revise
from pytest_mlperf.core.types import Scenario

SS, MS = Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM
SERVER, OFFLINE = Scenario.SERVER, Scenario.OFFLINE

FROM_CONFIG = """
import json, sys
import mlperf_loadgen as lg

found = []
for model, scenario in json.loads(sys.argv[1]):
    settings = lg.TestSettings()
    settings.FromConfig("", model, scenario, 0)
    names = [n for n in dir(settings) if not n.startswith("_")]
    values = {n: getattr(settings, n) for n in names}
    found.append({n: v for n, v in values.items() if isinstance(v, (int, float))})
print(json.dumps(found))
"""

NOT_IN_CONF = {"dlrm-v3", "qwen3.6-27b", "e2e-rag-qna", "e2e-rag-db"}
"""Models without a sample count in mlperf.conf: theirs are the checker's alone."""


@pytest.fixture(scope="module")
def conf() -> list[tuple[Rule, dict[str, Any]]]:
    """Every rule of v6.1 beside what LoadGen's own mlperf.conf yields for it."""
    rules = rounds.get("v6.1").rules
    asked = json.dumps([(r.loadgen_model, r.scenario.loadgen) for r in rules])
    done = subprocess.run(
        [sys.executable, "-c", FROM_CONFIG, asked],
        check=True,
        capture_output=True,
        text=True,
    )
    return list(zip(rules, json.loads(done.stdout), strict=True))


def test_v6_1_has_loadgens_seeds(conf: list[tuple[Rule, dict[str, Any]]]) -> None:
    """The compiled-in round's seeds are v6.1's, TEST05's included."""
    seeds = rounds.get("v6.1").seeds
    names = ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")
    found = conf[0][1]

    own = (seeds.qsl, seeds.sample_index, seeds.schedule)
    assert own == tuple(found[name] for name in names)
    assert seeds.test05 == tuple(found[f"test05_{name}"] for name in names)


def test_v6_1_asks_for_what_loadgen_asks(
    conf: list[tuple[Rule, dict[str, Any]]],
) -> None:
    """Durations, counts and modes equal mlperf.conf's for every rule of the round."""
    for rule, found in conf:
        told = (rule.min_duration_ms, rule.min_query_count, rule.use_token_latencies)
        names = ("min_duration_ms", "min_query_count", "use_token_latencies")

        assert told == tuple(found[name] for name in names), rule.model


def test_v6_1_bounds_latency_as_loadgen_does(
    conf: list[tuple[Rule, dict[str, Any]]],
) -> None:
    """Bounds, percentiles and samples per query equal mlperf.conf's."""
    for rule, found in conf:
        if rule.loadgen_model == "qwen3-vl-235b-a22b-interactive":
            continue  # mlperf.conf does not have it; the checker's table rules
        if rule.scenario.loadgen == "Server":
            told = (rule.percentile, rule.target_latency_ns or 0)
            names = ["server_target_latency_percentile", "server_target_latency_ns"]
            if rule.ttft_ns and rule.tpot_ns:
                told = (*told, rule.ttft_ns, rule.tpot_ns)  # type: ignore[assignment]
                names += ["ttft_latency", "tpot_latency"]
        elif rule.scenario is MS:
            told = (rule.percentile, rule.samples_per_query)
            names = [
                "multi_stream_target_latency_percentile",
                "multi_stream_samples_per_query",
            ]
        elif rule.scenario is SS:
            told = (rule.percentile, 1)
            names = ["single_stream_target_latency_percentile", "mode"]
            found = {**found, "mode": 1}
        else:
            told, names = (None, 0), []

        assert tuple(found[name] for name in names) == told[: len(names)], rule.model


def test_v6_1_loads_and_shares_samples_as_loadgen_does(
    conf: list[tuple[Rule, dict[str, Any]]],
) -> None:
    """Sample counts and equal issue equal mlperf.conf's, but where it has none."""
    for rule, found in conf:
        if rule.loadgen_model == "qwen3-vl-235b-a22b-interactive":
            continue
        count = found["performance_sample_count_override"]
        if rule.benchmark == "3d-unet" or rule.benchmark in NOT_IN_CONF:
            count, required = count, 0  # 0 keeps the whole dataset in memory
        elif rule.benchmark == "wan-2.2-t2v-a14b":
            required = 248  # the checker is content with 50
        else:
            required = rule.performance_sample_count

        assert (required, rule.equal_issue) == (
            count,
            found["sample_concatenate_permutation"],
        ), rule.model


@pytest.mark.parametrize(
    ("name", "target", "scenario", "expected"),
    [
        ("bert", "99", SERVER, "v4.1"),
        ("bert", "99.9", SERVER, "v4.1"),
        ("bert", "99", SS, "v6.1"),
        ("bert", "99.9", OFFLINE, "v6.1"),
        ("resnet50", "", SERVER, "v6.1"),
        ("resnet50", "", MS, "v6.1"),
    ],
)
def test_newest_round_is_the_last_that_has_the_combination(
    name: str, target: str, scenario: Scenario, expected: str
) -> None:
    """Server ended for bert with v4.1; resnet50 keeps it for some systems."""
    found = rounds.newest(name, target, scenario)

    assert found is not None
    assert expected == found.name


def test_bert_has_no_multistream_in_any_round() -> None:
    """There is no rule to judge such a run by, so there is no cell."""
    assert rounds.newest("bert", "99", MS) is None
    assert rounds.newest("bert", "99.9", MS) is None


def test_resnet50_server_is_left_for_systems_of_both_categories() -> None:
    """v5.0 asks it of every datacenter system; v5.1 only of those that are edge too."""
    old = rounds.get("v5.0").find("resnet50", "", SERVER)
    new = rounds.get("v5.1").find("resnet50", "", SERVER)

    assert old is not None
    assert new is not None
    assert old.required_in == {"datacenter", "datacenter_edge"}
    assert new.required_in == {"datacenter_edge"}


def test_server_bounds_are_the_rounds_own() -> None:
    """resnet50 answers within 15 ms, bert within 130 ms, in every round."""
    found = {
        (rule.benchmark, rule.target_latency_ns)
        for name in rounds.ROUNDS
        for rule in rounds.get(name).rules
        if rule.benchmark in ("resnet50", "bert") and rule.scenario is SERVER
    }

    assert found == {("resnet50", 15_000_000), ("bert", 130_000_000)}


def test_server_reports_the_scheduled_rate_up_to_v4_0() -> None:
    """v2.0 publishes what was scheduled, later rounds what was completed."""
    old = rounds.get("v2.0").find("bert", "99", SERVER)
    new = rounds.get("v4.1").find("bert", "99", SERVER)

    assert old is not None
    assert new is not None
    assert old.result_key == "result_scheduled_samples_per_sec"
    assert new.result_key == "result_completed_samples_per_sec"


def test_no_two_rounds_share_a_seed() -> None:
    """A run with another round's seeds can be told by any of the three."""
    seeds = [rounds.get(name).seeds for name in rounds.ROUNDS]
    every = [s for own in seeds for s in (own.qsl, own.sample_index, own.schedule)]

    assert len(every) == len(set(every))
    assert all(0 < seed < 2**64 for seed in every)


def test_a_rule_is_found_by_one_combination_only() -> None:
    """No round has two rules for the same benchmark, target and scenario."""
    for name in rounds.ROUNDS:
        rules = rounds.get(name).rules
        keys = {(rule.benchmark, rule.target, rule.scenario) for rule in rules}

        assert len(keys) == len(rules) > 20
        assert all(rule.sources and rule.result_key for rule in rules)


def test_accuracy_targets_are_shares_of_the_reference() -> None:
    """Targets 99 and 99.9 of bert differ in the ratio alone."""
    found = {}
    for target in ("99", "99.9"):
        rule = rounds.get("v6.1").find("bert", target, OFFLINE)
        assert rule is not None
        found[target] = rule.accuracy[0].threshold

    assert found == {
        "99": pytest.approx(89.96526),
        "99.9": pytest.approx(90.783126),
    }


def test_a_limit_moves_with_the_reference() -> None:
    """A stand-in's reference replaces the round's; ratio and band width stay."""
    limit = AccuracyLimit("TOKENS_PER_SAMPLE", 200.0, 0.9, 220.0)
    moved = limit.against(100.0)

    assert moved.threshold == pytest.approx(90.0)
    assert moved.upper == pytest.approx(110.0)


def test_unknown_round_lists_the_legal_ones() -> None:
    """A typing mistake is answered with what could have been meant."""
    with pytest.raises(ValueError, match=r"'v9\.9' is not a round; legal: v2\.0, v4"):
        rounds.get("v9.9")


def test_a_difference_to_the_previous_round_must_name_a_benchmark_of_it() -> None:
    """A misspelt name in a round's table does not pass for a change."""
    with pytest.raises(ValueError, match="not in the previous round: resnet51"):
        revise(v5_1.FAMILIES, drop=("resnet51",))
