"""What LoadGen writes twice is the same twice: a log that passes, and one that lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.judge.judge import judge
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from tests.support import log_values
from tests.support import logs
from tests.support.cells import cell_of
from tests.support.judging import SLOW
from tests.support.judging import failed
from tests.support.judging import is_refused
from tests.support.judging import named
from tests.support.judging import verdict

ALL = ("SingleStream", "MultiStream", "Server", "Offline")
TOKENS = log_values.Tokens(ttft_ns=2_000_000_000, tpot_ns=200_000_000, count=295)
ANSWERS = logs.rising(24_576, 3_000_000_000, 15_000_000_000)
BATCH = logs.rising(24_576, 1_000_000_000, 660_000_000_000)
EQUAL = {"effective_sample_concatenate_permutation": True}


def llama(folder: Path, scenario: Scenario) -> Verdict:
    """Judge a folder as llama2-70b-99 under v5.1."""
    cell = cell_of("llama2-70b", "99", scenario, "null", "v5.1")
    return judge(folder, cell, Mode.PERFORMANCE, Context())


def token_run(folder: Path, scenario: str, **story: Any) -> Path:
    """Write a token run of Llama 2 70B; keywords change the story."""
    taken = BATCH if scenario == "Offline" else ANSWERS
    whole: dict[str, Any] = {
        "latencies": taken,
        "tokens": TOKENS,
        "target_ns": 0,
        "seeds": "v5.1",
        "loaded": 24_576,
        **story,
    }
    whole["change"] = {
        **EQUAL,
        "qsl_reported_total_count": 24_576,
        **story.get("change", {}),
    }
    return logs.performance(folder, scenario, **whole)


@pytest.mark.parametrize(
    ("scenario", "unjudged"),
    [
        (
            "Server",
            {
                "end-to-end p99": "result_99.00_percentile_latency_ns",
                "answered": "result_completed_samples_per_sec",
            },
        ),
        ("Offline", {"answered": "result_samples_per_second"}),
    ],
)
def test_a_token_run_by_the_rules_is_valid(
    tmp_path: Path, scenario: str, unjudged: dict[str, str]
) -> None:
    """First tokens, time per token and token rates fit each other.

    What no rule bounds stands beside them, and the figure itself not twice.
    """
    found = llama(token_run(tmp_path, scenario), Scenario(scenario))

    assert failed(found) == set()
    assert found.outcome == "VALID"
    assert {name: m.key for name, m in found.unjudged.items()} == unjudged


def test_interactive_is_held_to_its_own_token_bounds(tmp_path: Path) -> None:
    """A run within Server's bounds is not within Interactive's tighter ones."""
    folder = token_run(tmp_path, "Server")
    found = llama(folder, Scenario.INTERACTIVE)

    assert {"latency_bound", "target_latency_setting"} <= failed(found)
    assert "at most 450.0" in named(found, "latency_bound").required


SERVERS_OWN = (
    "target_qps", "target_latency_ns", "target_latency_percentile", "coalesce_queries",
    "find_peak_qps_decimals_of_precision", "find_peak_qps_boundary_step_size",
    "max_async_queries", "num_issue_query_threads",
)  # fmt: skip
SERVERS_RESULTS = (
    "perf_constraints_met", "overlatency_query_count", "scheduled_samples_per_sec",
    "completed_samples_per_sec",
)  # fmt: skip


def test_a_scenario_that_is_none_is_named_with_its_line(tmp_path: Path) -> None:
    """The line that has it is the one to look at, not the file alone."""
    change = {"effective_scenario": "Walk", "requested_scenario": "Walk"}
    drop = [f"requested_server_{name}" for name in SERVERS_OWN]
    drop += [f"result_{name}" for name in SERVERS_RESULTS]
    folder = logs.performance(tmp_path, "Server", change=change, drop=drop)
    lines = (folder / "mlperf_log_detail.txt").read_text().splitlines()
    number = 1 + next(i for i, text in enumerate(lines) if "effective_scen" in text)
    check = named(verdict(folder, "Server"), "requested_settings")

    assert (check.found, check.required) == ("Walk", "a LoadGen scenario")
    assert check.where == f"mlperf_log_detail.txt:{number}"


FORGED = {
    "early_stopping_met": True,
    "result_validity": "VALID",
    "early_stopping_ttft_result": " * Run successful.",
}


def test_late_tokens_are_counted_by_the_percentiles(tmp_path: Path) -> None:
    """LoadGen logs no count of them; a late 99.9th percentile tells the fewest."""
    late = [*logs.rising(598, 3_000_000_000, 15_000_000_000), *[21_000_000_000] * 2]
    honest = token_run(tmp_path / "honest", "Server", latencies=late)
    forged = token_run(
        tmp_path / "forged",
        "Server",
        latencies=late,
        change=FORGED,
        drop=["result_invalid_reason"],
    )
    found = llama(forged, Scenario.SERVER)

    assert "loadgen_validity" in failed(llama(honest, Scenario.SERVER))
    assert named(found, "latency_bound").status is Status.PASS
    assert named(found, "early_stopping").status is Status.FAIL
    assert "at least 662 queries for 1 late" in named(found, "early_stopping").required


LIES: list[tuple[str, str, dict[str, Any]]] = [
    *(
        ("requested_settings", scenario, {"change": {key: value}, "mirror": False})
        for scenario in ALL
        for key, value in (
            ("effective_min_duration_ms", 600_001),
            ("effective_max_duration_ms", 1),
            ("effective_qsl_rng_seed", 5),
            ("effective_min_sample_count", 7),
            ("effective_target_qps", 5000.0),
            ("effective_performance_sample_count", 2048),
            ("effective_print_timestamps", True),
            ("effective_samples_per_query", 3),
            ("effective_target_duration_ms", 1),
        )
    ),
    (
        "requested_settings",
        "Server",
        {"change": {"effective_target_latency_ns": 9}, "mirror": False},
    ),
    *(
        ("loaded_samples", scenario, {"change": {"loaded_qsl_set": indices}})
        for scenario in ALL
        for indices in (
            list(range(1023)),
            [*range(1023), 5],
            [*range(1023), 50_000],
            [*range(1025)],
        )
    ),
    (
        "loaded_samples",
        "MultiStream",
        {"change": {"loaded_qsl_set": [*range(1024), 0, 1, 2, 3, 4, 5, 7]}},
    ),
    ("generated_queries", "Offline", {"change": {"generated_query_count": 2}}),
    ("generated_queries", "Server", {"change": {"generated_query_count": 60_501}}),
    ("generated_queries", "SingleStream", {"change": {"generated_query_count": 999}}),
    ("generated_queries", "Offline", {"change": {"generated_samples_per_query": 5}}),
    *(
        ("wall_time", scenario, {"change": {"power_end": log_values.clock(4000)}})
        for scenario in ALL
    ),
    ("flags_agree", "Server", {"change": {"effective_min_query_count": 60_501}}),
    ("flags_agree", "Offline", {"change": {"effective_min_sample_count": 66_001}}),
    ("flags_agree", "Offline", {"change": {"effective_min_duration_ms": 660_100}}),
    ("flags_agree", "SingleStream", {"change": {"result_query_count": 60}}),
    (
        "flags_agree",
        "Server",
        {"change": {"effective_target_latency_ns": 11_000_000}},
    ),
    (
        "loadgen_validity",
        "Server",
        {"change": {"result_invalid_reason": "Reduce target QPS"}},
    ),
    ("early_stopping", "Server", {"change": {"result_overlatency_query_count": 3}}),
    ("early_stopping", "Server", {"change": {"early_stopping_result": " * No."}}),
    (
        "early_stopping",
        "SingleStream",
        {"change": {"early_stopping_latency_ms": 619_000_000}},
    ),
    *(
        ("metric_present", scenario, {"change": {key: value}})
        for scenario in ALL
        for key, value in (
            ("result_mean_latency_ns", 1),
            ("result_50.00_percentile_latency_ns", 1),
            ("result_99.90_percentile_latency_ns", 10**14),
        )
    ),
    (
        "metric_present",
        "SingleStream",
        {"change": {"result_qps_without_loadgen_overhead": 1.7}},
    ),
    (
        "metric_present",
        "SingleStream",
        {"change": {"result_qps_with_loadgen_overhead": 1.7}},
    ),
    (
        "metric_present",
        "MultiStream",
        {"change": {"result_max_query_latency_ns": 621_000_000}},
    ),
    (
        "metric_present",
        "Server",
        {"change": {"result_completed_samples_per_sec": 99.0}},
    ),
    *(
        ("summary_agrees", scenario, {"summary": {key: value}})
        for scenario in ALL
        for key, value in (
            ("result_validity", "INVALID"),
            ("result_min_queries_met", False),
            ("effective_qsl_rng_seed", 1),
            ("effective_target_qps", 1.5),
            ("sut_name", "another"),
            ("effective_test_mode", "AccuracyOnly"),
        )
    ),
    ("summary_agrees", "Offline", {"summary": {"result_samples_per_second": 100.1}}),
    ("summary_agrees", "Server", {"summary": {"early_stopping_result": " * No."}}),
    ("no_errors", "Server", {"change": {"num_errors": -1}}),
]


@pytest.mark.parametrize(
    ("name", "scenario", "story"),
    LIES,
    ids=[f"{name}-{i}" for i, (name, _, _) in enumerate(LIES)],
)
def test_a_log_that_contradicts_itself_fails(
    tmp_path: Path, name: str, scenario: str, story: dict[str, Any]
) -> None:
    """Found, required, place and remedy are all there."""
    found = verdict(logs.performance(tmp_path, scenario, **story), scenario)

    is_refused(found, name)
    assert found.outcome == "INVALID"


TOKEN_LIES = [
    ({"result_completed_tokens_per_second": 24_000.0}, "metric_present"),
    ({"result_token_throughput": 2e-8}, "metric_present"),
    ({"result_first_token_99.00_percentile_latency_ns": 1}, "metric_present"),
    ({"result_time_to_output_token_mean": 10**12}, "metric_present"),
    ({"requested_server_ttft_latency": 2_000_000_001}, "target_latency_setting"),
    ({"requested_server_tpot_latency": 200_000_001}, "target_latency_setting"),
    ({"early_stopping_tpot_result": ""}, "early_stopping"),
    ({"effective_sample_concatenate_permutation": False}, "issue_modes"),
]


@pytest.mark.parametrize(("change", "name"), TOKEN_LIES)
def test_token_figures_that_do_not_fit_fail(
    tmp_path: Path, change: dict[str, object], name: str
) -> None:
    """Tokens a second come of one number of tokens, and a first token before a last."""
    found = llama(token_run(tmp_path, "Server", change=change), Scenario.SERVER)

    assert named(found, name).status is Status.FAIL


def test_answers_of_another_length_fail(tmp_path: Path) -> None:
    """Twice the tokens of the reference cannot be its answers."""
    twice = log_values.Tokens(count=590)
    folder = token_run(tmp_path, "Offline", tokens=twice)
    check = named(llama(folder, Scenario.OFFLINE), "metric_present")

    assert check.status is Status.FAIL
    assert check.found.startswith("590")


def test_a_set_of_other_questions_tells_no_length(tmp_path: Path) -> None:
    """gpt-oss is scored on other questions than it is timed on: no length is odd.

    All 60 published runs of v6.0 have 1,307 to 1,379 tokens an answer.
    """
    story = {
        "latencies": logs.rising(6396, 1_000_000_000, 660_000_000_000),
        "tokens": log_values.Tokens(count=1308),
        "seeds": "v6.0",
        "loaded": 6396,
        "change": {"qsl_reported_total_count": 6396},
    }
    folder = token_run(tmp_path, "Offline", **story)
    cell = cell_of("gpt-oss-120b", "", Scenario.OFFLINE, "null", "v6.0")
    found = judge(folder, cell, Mode.PERFORMANCE, Context())

    assert failed(found) == set()


def test_equal_issue_fills_the_last_share_up(tmp_path: Path) -> None:
    """Offline issues whole multiples of the loaded set, and no other number."""
    change = {
        "effective_samples_per_query": 24_000,
        "effective_min_sample_count": 24_000,
    }
    change |= {"requested_min_query_count": 24_000, "requested_offline_expected_qps": 1}
    good = token_run(
        tmp_path / "good", "Offline", change={**change, "effective_target_qps": 1}
    )
    change["generated_samples_per_query"] = 24_575
    bad = token_run(
        tmp_path / "bad", "Offline", change={**change, "effective_target_qps": 1}
    )

    assert llama(good, Scenario.OFFLINE).outcome == "VALID"
    assert "generated_queries" in failed(llama(bad, Scenario.OFFLINE))


def test_summary_and_detail_of_two_runs_are_found_out(tmp_path: Path) -> None:
    """Files that were swapped cannot be judged: nothing that was measured agrees."""
    good = logs.performance(tmp_path / "good", "Server")
    other = logs.performance(tmp_path / "other", "Server", latencies=SLOW)
    name = "mlperf_log_summary.txt"
    (other / name).write_bytes((good / name).read_bytes())
    found = verdict(other, "Server")

    assert named(found, "summary_agrees").status is Status.ERROR
    assert found.outcome == "ERROR"


def test_warnings_that_the_summary_counts_have_to_be_there(tmp_path: Path) -> None:
    """Fewer are lost lines; more do no harm."""
    none, one = b"No warnings encountered during test.", b"1 warning encountered. "
    fewer = logs.performance(tmp_path / "fewer", "Server")
    path = fewer / "mlperf_log_summary.txt"
    path.write_bytes(path.read_bytes().replace(none, one + b"See detailed log."))
    more = logs.performance(tmp_path / "more", "Server", warnings=["it creaked"])

    assert named(verdict(fewer, "Server"), "summary_agrees").status is Status.ERROR
    assert verdict(more, "Server").outcome == "VALID"


@pytest.mark.parametrize(("count", "outcome"), [("2", "VALID"), ("3", "ERROR")])
def test_a_logger_short_of_memory_loses_a_warning(
    tmp_path: Path, count: str, outcome: str
) -> None:
    """Its warning of that is the one that is left: so in four logs of v6.0."""
    short = "Logging allocation detected: tid: 28 reserved_entries: 1024"
    folder = logs.performance(tmp_path, "Server", warnings=[short])
    path = folder / "mlperf_log_summary.txt"
    text = path.read_text()
    none = "No warnings encountered during test."
    assert none in text
    path.write_text(
        text.replace(none, f"{count} warnings encountered. See detailed log.")
    )

    assert verdict(folder, "Server").outcome == outcome


def test_a_name_beyond_ascii_may_be_lost_on_the_way(tmp_path: Path) -> None:
    """The numbers tell that it is one run."""
    change, summary = {"sut_name": "Größe ✓"}, {"sut_name": "Gr??e ?"}
    folder = logs.performance(tmp_path, "Server", change=change, summary=summary)

    assert verdict(folder, "Server").outcome == "VALID"
