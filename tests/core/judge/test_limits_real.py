"""Real LoadGen runs at both sides of every limit: the judge says what LoadGen says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core.early_stopping import count_queries_needed
from pytest_mlperf.core.logs import early_stopping_text
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from tests.support import scripted
from tests.support.scripted import BOUND_NS
from tests.support.scripted import rule_of

SS, MS = Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM
SERVER, OFFLINE = Scenario.SERVER, Scenario.OFFLINE
FLAGS = {
    "min_duration": "result_min_duration_met",
    "early_stopping": "early_stopping_met",
    "latency_bound": "result_perf_constraints_met",
}
"""Our check -> LoadGen's own flag of the same rule."""


def states(verdict: Verdict) -> dict[str, bool]:
    return {check.name: check.status is Status.PASS for check in verdict.checks}


def flags(log: Log) -> dict[str, bool]:
    found = {name: log.flag(key) for name, key in FLAGS.items() if key in log.values}
    if log.text("effective_scenario") == "Offline":
        del found["early_stopping"]  # always true there
    return found


def agree(folder: Path, rule: Rule) -> tuple[Verdict, Log]:
    """Judge a run; fail unless verdict and each flag are LoadGen's."""
    verdict, log = scripted.verdict(folder, rule), Log.read(folder)
    own = states(verdict)

    assert log.text("result_validity") == verdict.outcome, verdict.explain()
    assert flags(log) == {name: own[name] for name in flags(log)}
    # Our count is the one that early stopping needs; user.conf's is LoadGen's affair.
    assert log.flag("result_min_queries_met") or not own["loadgen_validity"]
    return verdict, log


PAUSE_S = BOUND_NS / 2e9
"""Longer, and answers in time may be late."""
RUNS: dict[str, tuple[Scenario, dict[str, Any], dict[str, Any], str]] = {
    # rule's fields, run, outcome
    "ss, 64 queries": (SS, {"min_query_count": 64}, {"service_s": 0.001}, "VALID"),
    "ss, 63 queries": (SS, {"min_query_count": 63}, {"service_s": 0.001}, "INVALID"),
    "ms, 662 queries": (
        MS,
        {"min_query_count": 662, "min_duration_ms": 1},
        {},
        "VALID",
    ),
    "ms, 661 queries": (
        MS,
        {"min_query_count": 661, "min_duration_ms": 1},
        {},
        "INVALID",
    ),
    "ss, long enough": (
        SS,
        {"min_duration_ms": 300, "min_query_count": 64},
        {"service_s": 0.002},
        "VALID",
    ),
    "ss, out of queries": (
        SS,
        {"min_duration_ms": 30_000, "min_query_count": 64},
        {"single_stream_expected_latency_ns": 1_000_000_000},
        "INVALID",
    ),
    "ms, long enough": (
        MS,
        {"min_duration_ms": 300, "min_query_count": 662},
        {"multi_stream_expected_latency_ns": 4_000},
        "VALID",
    ),
    "ms, out of queries": (
        MS,
        {"min_duration_ms": 30_000, "min_query_count": 662},
        {"multi_stream_expected_latency_ns": 1_000_000_000},
        "INVALID",
    ),
    "ss, stopped by a count": (
        SS,
        {"min_query_count": 100},
        {"service_s": 0.001, "max_query_count": 70},
        "INVALID",
    ),
    "offline, long enough": (
        OFFLINE,
        {"min_duration_ms": 300},
        {"service_s": 0.31 / 660},
        "VALID",
    ),
    "offline, too short": (
        OFFLINE,
        {"min_duration_ms": 30_000},
        {"offline_expected_qps": 20.0},
        "INVALID",
    ),
    "offline, enough samples": (
        OFFLINE,
        {"min_query_count": 1000, "min_sample_count": 1000},
        {"service_s": 0.0001},
        "VALID",
    ),
    "server, long enough": (SERVER, {"min_duration_ms": 400}, {}, "VALID"),
    "server, stopped by a count": (
        SERVER,
        {"min_duration_ms": 400},
        {"max_query_count": 500},
        "INVALID",
    ),
    "server, 459 queries": (SERVER, {"min_query_count": 459}, {}, "VALID"),
    "server, 458 queries": (SERVER, {"min_query_count": 458}, {}, "INVALID"),
}


def rule_for(scenario: Scenario, fields: Mapping[str, Any]) -> Rule:
    bound = {"target_latency_ns": BOUND_NS} if scenario is SERVER else {}
    return rule_of("resnet50", scenario, **{**bound, **fields})


@pytest.mark.parametrize("name", list(RUNS))
def test_a_run_beside_a_limit_is_judged_as_loadgen_judges_it(
    tmp_path: Path, name: str
) -> None:
    """Counts and durations, enough by one or too few by one."""
    scenario, fields, how, outcome = RUNS[name]
    rule = rule_for(scenario, fields)
    folder = scripted.run(tmp_path / "run", rule, **how)
    verdict, log = agree(folder, rule)

    assert outcome == verdict.outcome, verdict.explain()
    if name.endswith(" queries"):
        assert rule.min_query_count == log.integer("result_query_count")


def every(step: int, count: int) -> list[int]:
    """Return ``count`` places, ``step`` apart: a few late ones, never in a row."""
    return [step * i for i in range(1, count + 1)]


LATE: list[tuple[int, int, set[str]]] = [
    # queries, late ones, checks that fail
    (662, 1, set()),
    (661, 1, {"early_stopping"}),
    (662, 2, {"early_stopping"}),
    (838, 2, set()),
    (837, 2, {"early_stopping"}),
    (2010, 10, set()),
    (2009, 10, {"early_stopping"}),
    # The 99th percentile of 2000 is the 1981st: 19 may be above it, early stopping
    # grants 9.
    (2000, 19, {"early_stopping"}),
    (2000, 20, {"early_stopping", "latency_bound"}),
]


@pytest.mark.parametrize(("queries", "count", "wrong"), LATE)
def test_server_at_the_threshold_of_early_stopping(
    tmp_path: Path, queries: int, count: int, wrong: set[str]
) -> None:
    """N(t, p) queries prove the percentile with t late, one fewer does not."""
    rule = rule_for(SERVER, {"min_query_count": queries})
    late = every(queries // (count + 1), count)
    folder = scripted.run(tmp_path / "run", rule, late=late)
    verdict, log = agree(folder, rule)
    found = {name for name in FLAGS if not states(verdict)[name]}
    said = early_stopping_text.read_report(log.get("early_stopping_result"))

    assert queries == log.integer("result_query_count")
    assert count == log.integer("result_overlatency_query_count")
    assert wrong == found
    assert said is not None
    assert ("early_stopping" not in wrong) is said.met
    if not said.met:
        assert queries == said.queries
        assert count_queries_needed(count, 0.99) == said.needed
        assert count == said.late(0.99)


def tokens_rule(scenario: Scenario = SERVER, **fields: Any) -> Rule:
    """Return llama2-70b's rule with bounds that a double keeps or breaks."""
    bounds = {"ttft_ns": BOUND_NS, "tpot_ns": BOUND_NS}
    return rule_of("llama2-70b", scenario, "99.9", **{**bounds, **fields})


TOKENS: list[tuple[str, int, int, set[str]]] = [
    ("answer", 459, 0, set()),
    ("answer", 458, 0, {"early_stopping"}),
    ("answer", 662, 1, set()),
    ("answer", 662, 2, {"early_stopping"}),
    ("answer", 700, 8, {"early_stopping", "latency_bound"}),
    ("rest", 662, 1, set()),
    ("rest", 662, 2, {"early_stopping"}),
    ("rest", 700, 8, {"early_stopping", "latency_bound"}),
]


@pytest.mark.parametrize(("what", "queries", "count", "wrong"), TOKENS)
def test_late_tokens_count_as_loadgen_counts_them(
    tmp_path: Path, what: str, queries: int, count: int, wrong: set[str]
) -> None:
    """First tokens late, or the next ones; LoadGen's words tell how many were."""
    rule = tokens_rule(min_query_count=queries)
    late = every(queries // (count + 1), count)
    folder = scripted.run(tmp_path / "run", rule, late=late, what=what, tokens=2)
    verdict, log = agree(folder, rule)
    kind = "tpot" if what == "rest" or not count else "ttft"
    said = early_stopping_text.read_report(log.get(f"early_stopping_{kind}_result"))
    bounds = {"ttft": rule.ttft_ns, "tpot": rule.tpot_ns}

    assert wrong == {name for name in FLAGS if not states(verdict)[name]}
    assert said is not None
    assert ("early_stopping" not in wrong) is said.met
    fewest = early_stopping_text.count_late_tokens(log, queries, 0.99, bounds)
    if said.met:
        # The slowest one is late, the 99.9th percentile is not: one at least.
        assert count == fewest
    else:
        assert (said.queries, said.late(0.99)) == (queries, count)
        assert count == fewest


def test_a_run_by_a_looser_bound_is_counted_against_the_rounds(tmp_path: Path) -> None:
    """LoadGen is content with Server's limits; the Interactive cell is not."""
    loose = tokens_rule(min_query_count=700, ttft_ns=4 * BOUND_NS)
    folder = scripted.run(tmp_path / "run", loose, late=every(40, 16), tokens=2)
    agreed, log = agree(folder, loose)
    strict = replace(loose, ttft_ns=BOUND_NS)
    found = states(scripted.verdict(folder, strict))

    assert agreed.valid
    assert log.flag("early_stopping_met")
    assert not found["latency_bound"]
    assert not found["target_latency_setting"]
    assert not found["early_stopping"]


def test_answers_of_one_token_are_errors_that_loadgen_overlooks(tmp_path: Path) -> None:
    """Its result is VALID with a time per token of nonsense; ours is not."""
    rule = tokens_rule(min_query_count=500)
    folder = scripted.run(tmp_path / "run", rule, tokens=1)
    verdict, log = scripted.verdict(folder, rule), Log.read(folder)

    assert log.text("result_validity") == "VALID"
    assert verdict.outcome == "INVALID"
    assert not states(verdict)["no_errors"]
    assert log.integer("num_errors") == 500


def test_a_stream_with_tokens_reports_the_estimate_of_the_first(tmp_path: Path) -> None:
    """LoadGen's words are about TTFT and TPOT there, each with its own estimate."""
    rule = rule_of("llama3.1-8b-edge", SS, min_query_count=100)
    folder = scripted.run(tmp_path / "run", rule, tokens=3, service_s=0.001)
    verdict, log = agree(folder, rule)
    said = early_stopping_text.read_report(log.get("early_stopping_ttft_result"))

    assert verdict.valid, verdict.explain()
    assert said is not None
    assert (said.queries, said.needed, said.discarded) == (100, 64, 2)
    assert {0.9: log.integer("early_stopping_latency_ss")} == said.estimates


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        (None, None),
        (7, None),
        (" * Run successful.", early_stopping_text.EarlyStoppingReport(met=True)),
        (" * Run was fine.", None),
    ],
)
def test_words_that_hold_no_numbers(text: object, expected: object) -> None:
    """A success of Server has none; Offline has no words at all."""
    assert expected == early_stopping_text.read_report(text)


def test_a_count_that_no_number_of_late_ones_explains_is_not_believed() -> None:
    """663 is not N(t, 0.99) of any t: the text or the percentile is not LoadGen's."""
    text = " * Run unsuccessful.  * Processed 600 queries.  * Would need to run at "
    said = early_stopping_text.read_report(
        f"{text}least 63 more queries,  with the run"
    )

    assert said is not None
    assert said.needed == 663
    assert said.late(0.99) is None
    assert replace(said, needed=662).late(0.99) == 1
    assert replace(said, needed=400).late(0.99) is None
