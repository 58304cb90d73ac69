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
from pytest_mlperf.core.rounds.names import resolve_benchmark
from pytest_mlperf.core.rounds.table import revise
from pytest_mlperf.core.types import Scenario

SS, MS = Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM
SERVER, OFFLINE = Scenario.SERVER, Scenario.OFFLINE
INTERACTIVE = Scenario.INTERACTIVE

FROM_CONFIG = """
import json, re, sys
import mlperf_loadgen as lg

def values(settings):
    names = [n for n in dir(settings) if not n.startswith("_")]
    found = {n: getattr(settings, n) for n in names}
    return {n: v for n, v in found.items() if isinstance(v, (int, float))}

found = []
for model, scenario in json.loads(sys.argv[1]):
    settings = lg.TestSettings()
    settings.FromConfig("", model, scenario, 0)
    found.append(values(settings))
binary = open(lg.__file__, "rb").read()
line = rb"^([\\w.-]*\\w|\\*)[.](\\w+|\\*)[.]\\w+ = [\\d.]+$"
models = {m.decode() for m, _ in re.findall(line, binary, re.MULTILINE)}
print(json.dumps([found, values(lg.TestSettings()), sorted(models)]))
"""

NOT_COMPARED = {"token_latency_scaling_factor"}
"""LoadGen leaves it uninitialised where a model does not set it."""
# Of mlperf.conf, for user.conf to override.
PLACEHOLDERS = {
    "single_stream_expected_latency_ns": 10e6,
    "multi_stream_expected_latency_ns": 80e6,
    "server_target_qps": 1.0,
    "offline_expected_qps": 1.0,
}
OWN = {
    "single_stream_": SS,
    "multi_stream_": MS,
    "server_": SERVER,
    "ttft_": SERVER,
    "tpot_": SERVER,
}
"""Prefix of a setting -> the only scenario in which LoadGen reads it."""

NO_COUNT: dict[str, float] = {"performance_sample_count_override": 0}
DIFFERENT: dict[tuple[str, Scenario | None], dict[str, float]] = {
    # 0 keeps the whole dataset in memory: the 43 that the checker asks for.
    ("3d-unet", None): NO_COUNT,
    # The checker is content with 50.
    ("wan-2.2-t2v-a14b", None): {"performance_sample_count_override": 248},
    # mlperf.conf names no sample count, or not even the model: the checker's alone.
    ("dlrm-v3", None): NO_COUNT,
    ("qwen3.6-27b", None): NO_COUNT,
    # One pass, of any duration: the checker's exemption.
    ("e2e-rag-qna", None): {**NO_COUNT, "min_duration_ms": 600_000},
    ("e2e-rag-db", None): {**NO_COUNT, "min_duration_ms": 600_000},
    # Not in mlperf.conf, whose 10 ms is everybody's placeholder.
    ("qwen3-vl-235b-a22b", INTERACTIVE): {
        **NO_COUNT,
        "accuracy_sample_count_override": 0,
        "sample_concatenate_permutation": False,
        "server_target_latency_ns": 10_000_000,
    },
}
"""What LoadGen has where the round's table, with a note, holds another number."""

RETIRED = {"dlrm", "dlrm-v2", "gptj", "retinanet", "rnnt", "ssd-small", "mixtral-8x7b"}
RETIRED |= {"llama3.1-405b", "pointpainting"}
"""Benchmarks that LoadGen's mlperf.conf keeps and v6.1 no longer has."""

Conf = tuple[list[tuple[Rule, dict[str, Any]]], dict[str, Any], list[str]]


@pytest.fixture(scope="module")
def conf() -> Conf:
    """Every rule of v6.1 beside what LoadGen's own mlperf.conf yields for it.

    Then TestSettings as they come, and the models that mlperf.conf names.
    """
    rules = rounds.get("v6.1").rules
    asked = json.dumps([(r.loadgen_model, r.scenario.loadgen) for r in rules])
    done = subprocess.run(
        [sys.executable, "-c", FROM_CONFIG, asked],
        check=True,
        capture_output=True,
        text=True,
    )
    found, defaults, models = json.loads(done.stdout)
    return list(zip(rules, found, strict=True)), defaults, models


def told(rule: Rule) -> dict[str, Any]:
    """Return the TestSettings that a rule of v6.1 stands for, defaults left out."""
    seeds = rounds.get("v6.1").seeds
    assert seeds.test05 is not None
    scenario = SERVER if rule.scenario is INTERACTIVE else rule.scenario
    kinds = ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")
    own = (seeds.qsl, seeds.sample_index, seeds.schedule)
    values: dict[str, Any] = {
        **dict(zip(kinds, own, strict=True)),
        **{f"test05_{k}": s for k, s in zip(kinds, seeds.test05, strict=True)},
        **PLACEHOLDERS,
        "min_duration_ms": rule.min_duration_ms,
        "min_query_count": rule.min_query_count,
        "performance_sample_count_override": rule.performance_sample_count,
        "sample_concatenate_permutation": rule.equal_issue,
        "use_token_latencies": rule.use_token_latencies,
    }
    if rule.accuracy_sample_count != rule.dataset_size:
        values["accuracy_sample_count_override"] = rule.accuracy_sample_count
    if scenario is SERVER:
        values["server_target_latency_ns"] = rule.target_latency_ns or 0
        values["server_target_latency_percentile"] = rule.percentile
    if rule.ttft_ns:
        values |= {"ttft_latency": rule.ttft_ns, "tpot_latency": rule.tpot_ns}
    if scenario is MS:
        values["multi_stream_target_latency_percentile"] = rule.percentile
        values["multi_stream_samples_per_query"] = rule.samples_per_query
    if scenario is SS:
        values["single_stream_target_latency_percentile"] = rule.percentile
    for key in ((rule.benchmark, None), (rule.benchmark, rule.scenario)):
        values |= DIFFERENT.get(key, {})
    return values


def test_v6_1_is_what_loadgen_carries_in_every_setting(conf: Conf) -> None:
    """Each rule yields TestSettings equal to FromConfig's, attribute by attribute.

    Seeds, those of TEST05 too, durations, counts, bounds, percentiles and modes;
    what the rule does not speak of is LoadGen's own default.
    """
    pairs, defaults, _ = conf
    for rule, found in pairs:
        expected = {**defaults, **told(rule)}
        scenario = SERVER if rule.scenario is INTERACTIVE else rule.scenario
        others = tuple(p for p, owner in OWN.items() if owner is not scenario)
        compared = {
            n for n in defaults.keys() - NOT_COMPARED if not n.startswith(others)
        }
        name = f"{rule.model} {rule.scenario.value}"

        assert [(name, k, expected[k]) for k in sorted(compared)] == [
            (name, k, found[k]) for k in sorted(compared)
        ]
        assert len(compared) > 20
    assert len(pairs) > 40


def test_every_exception_to_loadgens_conf_is_one(conf: Conf) -> None:
    """No number said to differ from LoadGen's agrees with it; a note says why."""
    pairs, _, _ = conf
    kept = {
        "performance_sample_count_override": lambda r: r.performance_sample_count,
        "accuracy_sample_count_override": lambda r: r.accuracy_sample_count,
        "min_duration_ms": lambda r: r.min_duration_ms,
        "sample_concatenate_permutation": lambda r: r.equal_issue,
        "server_target_latency_ns": lambda r: r.target_latency_ns,
    }
    used = set()
    for rule, found in pairs:
        for key in ((rule.benchmark, None), (rule.benchmark, rule.scenario)):
            for name in DIFFERENT.get(key, {}):
                used.add((key, name))

                assert kept[name](rule) != found[name], (rule.model, name)
                assert set(rule.sources) - set(rounds.get("v6.1").sources.values())
    assert used == {(key, name) for key, own in DIFFERENT.items() for name in own}


def test_every_model_of_loadgens_conf_is_known(conf: Conf) -> None:
    """A model that LoadGen has settings for is in v6.1, or retired by name."""
    _, _, models = conf
    known = {resolve_benchmark(model, "v6.1") for model in models if model != "*"}
    named = {found[0] for found in known if found}
    current = {rule.benchmark for rule in rounds.get("v6.1").rules}

    assert None not in known
    assert len(models) > 25
    assert named - current == RETIRED


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
    found = rounds.find_newest(name, target, scenario)

    assert found is not None
    assert expected == found.name


def test_bert_has_no_multistream_in_any_round() -> None:
    """There is no rule to judge such a run by, so there is no cell."""
    assert rounds.find_newest("bert", "99", MS) is None
    assert rounds.find_newest("bert", "99.9", MS) is None


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
    with pytest.raises(ValueError, match=r"'v9\.9' is not a round; legal: v1\.0, v1"):
        rounds.get("v9.9")


def test_a_difference_to_the_previous_round_must_name_a_benchmark_of_it() -> None:
    """A misspelt name in a round's table does not pass for a change."""
    with pytest.raises(ValueError, match="not in the previous round: resnet51"):
        revise(v5_1.FAMILIES, drop=("resnet51",))
