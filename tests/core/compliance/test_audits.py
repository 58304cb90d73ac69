"""The compliance tests' settings: as the official files have them, and as run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.compliance import Audit
from pytest_mlperf.core.compliance import find
from pytest_mlperf.core.compliance import names
from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.judge.judge import judge
from pytest_mlperf.core.plan import plan_settings
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from tests.support import logs
from tests.support.audits import FOUND
from tests.support.audits import SAME
from tests.support.audits import rule_of

SAMPLING = {
    "effective_accuracy_log_rng_seed": 720381539243781796,
    "effective_accuracy_log_sampling_target": 4096,
}


def planned(rule: Rule, audit: Audit | None) -> Settings:
    return plan_settings(
        rule,
        rounds.get(rule.round).seeds,
        Mode.COMPLIANCE,
        available=10**6,
        target_qps=50.0,
        audit=audit,
    )


@pytest.mark.parametrize("name", rounds.ROUNDS)
def test_every_test_that_a_round_asks_for_has_settings(name: str) -> None:
    """No cell is collected with a test that nobody can run."""
    pairs = [(r, test) for r in rounds.get(name).rules for test in r.compliance]

    assert pairs
    assert all(find(test, rule).name == test in names() for rule, test in pairs)


def test_a_test_that_the_benchmark_does_not_have_is_refused_in_words() -> None:
    """The text names those that it has."""
    with pytest.raises(ValueError, match=r"'TEST06' is no compliance test.*has TEST01"):
        find("TEST06", rule_of("bert", target="99"))


def test_the_text_is_the_official_files() -> None:
    """Key, value and wildcard are what LoadGen reads from the official folder."""
    found = find("TEST01", rule_of("resnet50")).config.splitlines()

    assert found[1:] == [
        "*.Offline.mode = 2",
        "*.Offline.accuracy_log_rng_seed = 720381539243781796",
        "*.Offline.accuracy_log_sampling_target = 4096",
    ]


def test_what_only_the_verification_reads_is_in_the_text_too() -> None:
    """TEST09's bounds are in its official file, under keys that LoadGen passes over."""
    rule = rule_of("gpt-oss-120b", round_name="v6.1")
    found = find("TEST09", rule).config.splitlines()

    assert "*.Offline.performance_issue_unique = 1" in found
    assert "*.*.test09_min_output_tokens = 1150.38" in found
    assert "*.*.test09_max_output_tokens = 1406.02" in found
    assert "*.Offline.min_query_count = 6396" in found


@pytest.mark.parametrize("name", ["TEST07", "TEST09"])
def test_each_sample_is_issued_once_since_v6_1(name: str) -> None:
    """The official audit.config has it since July 2026, and v6.0's results have not."""
    key = "performance_issue_unique"
    before, since = (
        find(name, rule_of("gpt-oss-120b", round_name=one)) for one in ("v6.0", "v6.1")
    )

    assert key not in before.settings
    assert since.settings[key] == 1
    assert before.settings == {k: v for k, v in since.settings.items() if k != key}


def test_an_audited_run_keeps_the_performance_runs_user_conf() -> None:
    """TEST06 changes count and duration through audit.config, not through user.conf."""
    rule = rule_of("llama3.1-8b")
    plain, audited = planned(rule, None), planned(rule, find("TEST06", rule))

    assert plain.user_conf() == audited.user_conf()
    assert (audited.min_duration_ms, audited.min_query_count) == (0, 100)
    assert plain.min_duration_ms == 600_000
    assert plain.audit_config == ""


def test_test01_and_test04_keep_the_full_duration() -> None:
    """Their log is held to the rules of a performance run."""
    rule = rule_of("resnet50")
    found = [planned(rule, find(test, rule)) for test in ("TEST01", "TEST04")]

    assert [settings.min_duration_ms for settings in found] == [600_000, 600_000]
    assert all(find(test, rule).as_performance for test in ("TEST01", "TEST04"))


def test_test05_runs_on_its_own_seeds() -> None:
    """LoadGen takes no seeds from audit.config any more: the settings have them."""
    rule = rule_of("bert", round_name="v2.0", target="99")
    seeds = planned(rule, find("TEST05", rule)).seeds

    expected = (313588358309856706, 471397156132239067, 413914573387865862)
    assert expected == (seeds.qsl, seeds.sample_index, seeds.schedule)


def test_settings_that_name_a_model_are_applied_by_us() -> None:
    """LoadGen reads audit.config as model ``*``: it would pass over sdxl's count."""
    rule = rule_of("stable-diffusion-xl")
    audit = find("TEST04", rule)

    assert "stable-diffusion-xl.Offline.min_query_count = 500" in audit.config
    assert planned(rule, audit).min_query_count == 500


def judged(folder: Path, test: str, settings: Settings | None = None) -> Verdict:
    """Judge a folder as a compliance run of resnet50 Offline under v6.1."""
    rule = rule_of("resnet50")
    context = Context(audit=find(test, rule), settings=settings)
    return judge(folder, Cell(rule, "null"), Mode.COMPLIANCE, context)


@pytest.mark.parametrize(("test", "change"), [("TEST01", SAMPLING), ("TEST04", SAME)])
def test_what_the_audit_changes_is_allowed(
    test: str, change: dict[str, object], tmp_path: Path
) -> None:
    """A compliance log passes the performance rules with its audit's settings."""
    log = logs.performance(tmp_path, "Offline", change=change, warnings=[FOUND])
    settings = planned(rule_of("resnet50"), find(test, rule_of("resnet50")))
    found = judged(log, test, settings)

    assert [c for c in found.checks if c.status is not Status.PASS] == []
    assert test == found.mode
    assert {"loadgen_validity", "min_duration", "seeds"} <= {
        c.name for c in found.checks
    }


def test_a_compliance_run_without_its_settings_is_invalid(tmp_path: Path) -> None:
    """TEST04 without the same sample over and over proves nothing."""
    change = {"effective_performance_issue_same_index": 3}
    log = logs.performance(tmp_path, "Offline", change=change, warnings=[FOUND])
    (failed,) = [c for c in judged(log, "TEST04").checks if c.status is Status.FAIL]

    assert failed.name == "audit_settings"
    assert failed.found == "performance_issue_same = 0"
    assert failed.remedy == "run it with TEST04's audit.config"


def test_a_run_that_found_no_audit_config_is_told_where_to_put_it(
    tmp_path: Path,
) -> None:
    """It ran as a plain performance run, without an error: audit.conf is no name."""
    log = logs.performance(tmp_path, "Offline")
    (failed,) = [c for c in judged(log, "TEST04").checks if c.status is Status.FAIL]

    assert failed.found == "performance_issue_same = 0"
    assert "LoadGen found none" in failed.remedy
    assert "--audit-conf" in failed.remedy


def test_our_own_run_must_have_found_the_file(tmp_path: Path) -> None:
    """Settings that came another way are somebody else's business, not ours."""
    log = logs.performance(tmp_path, "Offline", change=SAME)
    rule = rule_of("resnet50")
    ours = judged(log, "TEST04", planned(rule, find("TEST04", rule)))
    theirs = judged(log, "TEST04")

    assert {c.name for c in ours.checks if c.status is Status.FAIL} == {
        "audit_settings"
    }
    assert theirs.valid


SECOND = "Multiple conf files are used. This is not valid for official submission."


@pytest.mark.parametrize(
    ("name", "ours"), [("v5.1", False), ("v6.0", False), ("v6.1", True)]
)
def test_a_second_user_conf_passes_in_others_compliance_runs(
    tmp_path: Path, name: str, ours: bool
) -> None:
    """The official checker has it so; no other error passes, nor other seeds."""
    rule = rule_of("resnet50", round_name=name)
    audit = find("TEST04", rule)
    context = Context(audit=audit, settings=planned(rule, audit) if ours else None)
    found = {}
    for key, errors, seed in (
        ("second", [SECOND], rounds.get(name).seeds.qsl),
        ("other", [SECOND, "Another."], rounds.get(name).seeds.qsl),
        ("seeds", [SECOND], 0),
    ):
        change = SAME | {"effective_qsl_rng_seed": seed}
        log = logs.performance(tmp_path / key, "Offline", seeds=name, change=change,
                               errors=errors, warnings=[FOUND])  # fmt: skip
        verdict = judge(log, Cell(rule, "null"), Mode.COMPLIANCE, context)
        found[key] = {c.name for c in verdict.checks if c.status is Status.FAIL}
    passes = name != "v5.1" and not ours

    assert ("no_errors" not in found["second"]) is passes
    assert "no_errors" in found["other"]
    assert "seeds" in found["seeds"]


def test_a_second_user_conf_never_passes_in_a_performance_run(tmp_path: Path) -> None:
    """LoadGen says itself that it is not valid for a submission."""
    rule = rule_of("resnet50")
    log = logs.performance(tmp_path, "Offline", errors=[SECOND])
    found = judge(log, Cell(rule, "null"), Mode.PERFORMANCE, Context())

    assert {c.name for c in found.checks if c.status is Status.FAIL} == {"no_errors"}


def test_a_performance_run_under_an_audit_stays_invalid(tmp_path: Path) -> None:
    """What a compliance run may do, its performance run may not."""
    log = logs.performance(tmp_path, "Offline", change=SAME, warnings=[FOUND])
    rule = rule_of("resnet50")
    settings = replace(planned(rule, None), mode=Mode.PERFORMANCE)
    context = Context(settings=settings)
    found = judge(log, Cell(rule, "null"), Mode.PERFORMANCE, context)

    failed = {c.name for c in found.checks if c.status is Status.FAIL}
    assert {"no_audit_config", "issue_modes"} <= failed


def test_a_token_test_is_held_to_its_own_rules_alone(tmp_path: Path) -> None:
    """Validity says nothing of TEST06, whose 100 queries are too few for Server."""
    rule = rule_of("llama3.1-8b", "Server")
    change = {
        **SAMPLING,
        "effective_accuracy_log_sampling_target": 100,
        "effective_min_duration_ms": 0,
        "result_validity": "INVALID",
    }
    log = logs.performance(tmp_path, "Server", change=change, warnings=[FOUND])
    context = Context(audit=find("TEST06", rule))
    found = judge(log, Cell(rule, "null"), Mode.COMPLIANCE, context)

    assert [c for c in found.checks if c.status is not Status.PASS] == []
    assert found.metric is None


@pytest.mark.parametrize(
    ("queries", "failed"), [(100, set()), (99, {"audit_settings"})]
)
def test_a_server_runs_the_queries_that_its_test_asks_for(
    tmp_path: Path, queries: int, failed: set[str]
) -> None:
    """Offline counts samples in one query, and is held to them elsewhere."""
    change = {
        **SAMPLING,
        "effective_accuracy_log_sampling_target": 100,
        "effective_min_duration_ms": 0,
        "effective_min_query_count": queries,
    }
    log = logs.performance(tmp_path, "Server", change=change, warnings=[FOUND])
    rule = rule_of("llama3.1-8b", "Server")
    context = Context(audit=find("TEST06", rule))
    found = judge(log, Cell(rule, "null"), Mode.COMPLIANCE, context)

    assert {c.name for c in found.checks if c.status is not Status.PASS} == failed


@pytest.mark.parametrize(
    ("queries", "failed"), [(100, set()), (20, set()), (19, {"audit_settings"})]
)
def test_more_queries_than_the_audit_asks_for_do_no_harm(
    tmp_path: Path, queries: int, failed: set[str]
) -> None:
    """Wan's 20 are named for the model, and LoadGen keeps mlperf.conf's 100."""
    change = {**SAME, "effective_min_query_count": queries}
    change["requested_min_query_count"] = queries
    log = logs.performance(
        tmp_path, "SingleStream", change=change, warnings=[FOUND], seeds="v6.0"
    )
    rule = rule_of("wan-2.2-t2v-a14b", "SingleStream", round_name="v6.0")
    found = judge(
        log,
        Cell(rule, "null"),
        Mode.COMPLIANCE,
        Context(audit=find("TEST04", rule)),
    )
    bad = {c.name for c in found.checks if c.status is not Status.PASS}

    assert bad & {"audit_settings"} == failed


ALL_ISSUED = "IssueQueryThread 0 Ending early: Max query count reached. query_count 990"


@pytest.mark.parametrize(
    ("test", "most", "passes"),
    [("TEST07", 990, True), ("TEST07", 500, False), ("TEST04", 990, False)],
)
def test_a_run_may_end_when_all_that_its_test_asks_for_is_issued(
    tmp_path: Path, test: str, most: int, passes: bool
) -> None:
    """Published TEST07 runs have max_query_count = 990: LoadGen calls that an error."""
    rule = rule_of("gpt-oss-120b" if test == "TEST07" else "resnet50", "Offline")
    change = {"effective_max_query_count": most}
    log = logs.performance(
        tmp_path, "Offline", change=change, errors=[ALL_ISSUED], warnings=[FOUND]
    )
    context = Context(audit=find(test, rule))
    found = judge(log, Cell(rule, "null"), Mode.COMPLIANCE, context)

    bad = {c.name for c in found.checks if c.status is Status.FAIL}

    assert ("no_errors" not in bad) is passes
