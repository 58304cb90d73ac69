"""Real LoadGen runs of a second through the runner, judged by the round's rules."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.benchmarks.resnet50 import EMBEDDED
from pytest_mlperf.core import rounds
from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.judge.judge import judge
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.query_record import QueryRecord
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import PARTIAL
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from tests.support import doubles

ROUND = rounds.get("v6.1")
SECOND_NS = 1_000_000_000
TUNED = Tuning(
    batch=1024, streams=1, threads=1, target_qps=2000, expected_latency_ms=0.001
)
CASES: dict[Scenario, dict[str, Any]] = {
    Scenario.SINGLE_STREAM: {"seconds": 1},
    # Lists so long that no machine is through with them before the time is up.
    Scenario.MULTI_STREAM: {
        "seconds": 0.5,
        "tuning": replace(TUNED, expected_latency_ms=0.004),
    },
    Scenario.OFFLINE: {"seconds": 0.25, "tuning": replace(TUNED, target_qps=8e6)},
    Scenario.SERVER: {
        "seconds": 1,
        # A second's bound: a busy machine must not decide what this is about.
        "rule": replace(doubles.rule_for(Scenario.SERVER), target_latency_ns=SECOND_NS),
    },
}
"""Scenario -> what makes the null engine VALID on any machine."""


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """One child for the module: what a session of the suites has."""
    runner = Runner(stall_s=60, build_s=120)
    yield runner
    runner.close()


def cell(
    folder: Path, scenario: Scenario, mode: Mode, engine: str = "null", **changes: Any
) -> Task:
    """Return a job of the embedded resnet50."""
    changes = {"tuning": TUNED, **CASES[scenario], **changes}
    return doubles.make_task(
        folder, engine, benchmark="resnet50", scenario=scenario, mode=mode, **changes
    )


def verdict_of(job: Task, done: RunResult) -> Verdict:
    """Judge a run as the measure fixture does."""
    context = Context(
        settings=done.settings,
        reference=dict(done.reference),
        waived=dict(done.settings.waived),
        build=done.build,
        dataset_total=done.dataset_total,
    )
    return judge(job.folder, job.cell, job.mode, context)


def by_name(verdict: Verdict, status: Status) -> set[str]:
    return {check.name for check in verdict.checks if check.status is status}


def files(job: Task) -> set[str]:
    return {path.name for path in Path(job.folder).iterdir()}


LOGS = {
    "mlperf_log_summary.txt",
    "mlperf_log_detail.txt",
    "mlperf_log_accuracy.json",
    "mlperf_log_trace.json",
    "user.conf",
    "tuning.json",
}
PERFORMANCE_FILES = LOGS | {"queries.npz"}


def check_record(job: Task, log: Log) -> None:
    """Compare a run's record a query with what LoadGen says of it."""
    record = QueryRecord.read(Path(job.folder))
    assert record is not None
    columns, every = record.columns, record.every
    order = ("scheduled_ns", "issued_ns", "started_ns", "completed_ns")
    for before, after in pairwise(order):
        assert (columns[before] <= columns[after]).all()
    if job.rule.scenario is Scenario.OFFLINE:
        asked = log.integer("generated_samples_per_query")
    else:
        asked = log.integer("result_query_count") * job.rule.samples_per_query
    assert abs(int(columns["samples"].sum()) * every - asked) < every * 1024
    if job.rule.scenario is Scenario.SERVER:
        # The schedule follows from the seed: what is recorded is LoadGen's own latency.
        assert every == 1
        latency = columns["completed_ns"] - columns["scheduled_ns"]
        told = log.number("result_50.00_percentile_latency_ns")
        assert abs(float(np.median(latency)) - told) < 0.2 * told + 100_000


@pytest.mark.parametrize("scenario", list(CASES))
def test_a_performance_run_is_what_was_asked_for_and_valid(
    runner: Runner, tmp_path: Path, scenario: Scenario
) -> None:
    """LoadGen's own log has the seeds, times and targets; only waivers stand out."""
    job = cell(tmp_path, scenario, Mode.PERFORMANCE)
    done = runner.run(job)
    verdict = verdict_of(job, done)
    log = Log.read(Path(job.folder))
    waived = {"min_duration", "performance_sample_count"}
    # The null engine is fast enough for the counts of streams and Server.
    waived |= {
        check.name
        for check in verdict.checks
        if check.name in ("min_query_count", "min_sample_count")
        and check.status is Status.WAIVED
    }

    assert verdict.valid, verdict.explain()
    assert waived == by_name(verdict, Status.WAIVED)
    assert by_name(verdict, Status.FAIL) | by_name(verdict, Status.ERROR) == set()
    assert files(job) == PERFORMANCE_FILES
    check_record(job, log)
    assert log.integer("effective_qsl_rng_seed") == ROUND.seeds.qsl
    assert log.integer("effective_sample_index_rng_seed") == ROUND.seeds.sample_index
    assert log.integer("effective_schedule_rng_seed") == ROUND.seeds.schedule > 2**63
    assert log.integer("effective_min_duration_ms") == done.settings.min_duration_ms
    assert 1000 * CASES[scenario]["seconds"] == done.settings.min_duration_ms
    assert log.integer("effective_performance_sample_count") == 270
    # LoadGen fills MultiStream's last query of 8 with samples from the front.
    loaded = 277 if scenario is Scenario.MULTI_STREAM else 270
    assert loaded == log.integer("loaded_qsl_set")
    assert log.text("sut_name").strip() == "PyFastSUT"
    if scenario is Scenario.SERVER:
        assert log.number("requested_server_target_qps") == 2000
        assert log.integer("effective_target_latency_ns") == SECOND_NS
        assert log.number("effective_target_latency_percentile") == 0.99
    if scenario is Scenario.OFFLINE:
        assert log.number("requested_offline_expected_qps") == 8e6
    if scenario is Scenario.MULTI_STREAM:
        assert log.integer("effective_samples_per_query") == 8
        assert log.integer("requested_multi_stream_expected_latency_ns") == 4000
    if scenario is Scenario.SINGLE_STREAM:
        assert log.integer("requested_single_stream_expected_latency_ns") == 1000


@pytest.mark.parametrize("scenario", list(CASES))
def test_an_accuracy_run_answers_everything_and_the_null_engine_fails_it(
    runner: Runner, tmp_path: Path, scenario: Scenario
) -> None:
    """All 270 samples are answered and scored; constant answers miss the gate."""
    job = cell(tmp_path, scenario, Mode.ACCURACY)
    done = runner.run(job)
    verdict = verdict_of(job, done)

    assert not verdict.valid
    assert by_name(verdict, Status.FAIL) == {"accuracy_acc"}
    assert by_name(verdict, Status.ERROR) == set()
    assert by_name(verdict, Status.WAIVED) == {"dataset_size"}
    assert LOGS | {"accuracy.txt"} == files(job)
    assert set(done.metrics) == {"acc"}
    assert done.metrics["acc"] < 5


def test_a_query_that_ends_too_early_is_invalid(runner: Runner, tmp_path: Path) -> None:
    """Ten samples a second asked of the null engine do not fill a minute."""
    tuning = replace(TUNED, target_qps=10)
    job = cell(tmp_path, Scenario.OFFLINE, Mode.PERFORMANCE, tuning=tuning, seconds=60)
    verdict = verdict_of(job, runner.run(job))

    assert not verdict.valid
    assert by_name(verdict, Status.FAIL) == {"min_duration", "loadgen_validity"}


def test_a_bound_that_cannot_be_met_is_invalid(runner: Runner, tmp_path: Path) -> None:
    """Every query of a Server run is late under a bound of one nanosecond."""
    rule = replace(doubles.rule_for(Scenario.SERVER), target_latency_ns=1)
    job = cell(tmp_path, Scenario.SERVER, Mode.PERFORMANCE, rule=rule)
    verdict = verdict_of(job, runner.run(job))

    assert by_name(verdict, Status.FAIL) == {
        "latency_bound",
        "early_stopping",
        "loadgen_validity",
    }


def test_a_wrong_engine_fails_the_accuracy_gate(runner: Runner, tmp_path: Path) -> None:
    """An engine that runs well and answers wrongly is INVALID by its accuracy alone."""
    job = cell(tmp_path, Scenario.OFFLINE, Mode.ACCURACY, "ALWAYS_WRONG")
    job = replace(job, tuning=replace(TUNED, batch=32))
    verdict = verdict_of(job, runner.run(job))

    assert by_name(verdict, Status.FAIL) == {"accuracy_acc"}
    assert "96.4333" in verdict.explain()


def test_a_third_partys_engine_and_benchmark_run_by_dotted_spec(
    runner: Runner, tmp_path: Path
) -> None:
    """An honest engine that no entry point names reaches 100 % of its own workload."""
    job = doubles.make_task(tmp_path, "ECHO", mode=Mode.ACCURACY)
    done = runner.run(job)
    verdict = verdict_of(job, done)

    assert verdict.valid, verdict.explain()
    assert done.metrics == {"acc": 100.0}
    assert job.cell.engine == "echo"


def test_onnxruntime_performs_and_is_accurate_on_one_build_in_one_child(
    tmp_path: Path,
) -> None:
    """VALID samples/s, then the manifest's own accuracy; then another cell runs on."""
    tuning = Tuning(batch=8, streams=1, threads=1, target_qps=800, precision="fp32")
    # Far more work than one thread does in the time asked.
    fast = {"seconds": 0.5, "tuning": tuning}
    manifest = json.loads((EMBEDDED / "manifest.json").read_text())
    runner = Runner(stall_s=60, build_s=120)
    try:
        job = cell(
            tmp_path / "p", Scenario.OFFLINE, Mode.PERFORMANCE, "onnxruntime", **fast
        )
        performed = runner.run(job)
        speed, pid = verdict_of(job, performed), runner.pid
        job = cell(
            tmp_path / "a", Scenario.OFFLINE, Mode.ACCURACY, "onnxruntime", **fast
        )
        scored = runner.run(job)
        accuracy = verdict_of(job, scored)

        assert speed.valid, speed.explain()
        assert speed.metric is not None
        assert (
            speed.metric.key,
            speed.metric.unit,
        ) == ("result_samples_per_second", "samples/s")
        assert accuracy.valid, accuracy.explain()
        assert manifest["reference"]["acc"] == pytest.approx(scored.metrics["acc"])
        assert performed.build == scored.build
        assert speed.build == accuracy.build == performed.build
        assert pid == runner.pid

        other = cell(tmp_path / "n", Scenario.SERVER, Mode.PERFORMANCE)
        following = runner.run(other)

        assert verdict_of(other, following).valid
        assert performed.build != following.build
        assert pid == runner.pid
    finally:
        runner.close()


UNDERRATED = {
    Scenario.OFFLINE: replace(doubles.QUICK, target_qps=50),
    Scenario.SINGLE_STREAM: replace(doubles.QUICK, expected_latency_ms=1000),
}
ADVICE = re.compile(
    r"(raise target_qps|lower the expected latency) from .+? to ([\d.]+)"
)


@pytest.mark.parametrize("scenario", list(UNDERRATED))
def test_an_underrated_engine_is_told_its_tuning(
    runner: Runner, tmp_path: Path, scenario: Scenario
) -> None:
    """2 ms a sample are INVALID first; with the remedy's tuning they are VALID."""
    tuning, verdicts = UNDERRATED[scenario], list[Verdict]()
    # A run of a few queries measures little: its advice may be one of two.
    while not (verdicts and verdicts[-1].valid) and len(verdicts) < 4:
        job = doubles.make_task(
            tmp_path / str(len(verdicts)),
            "SLOW_SAMPLE",
            scenario=scenario,
            # So long at first that no pause of a busy machine fills it.
            seconds=0.4 if verdicts else 4,
            tuning=tuning,
        )
        verdicts.append(verdict_of(job, runner.run(job)))
        remedies = [c.remedy for c in verdicts[-1].checks if c.name == "min_duration"]
        if found := ADVICE.search(remedies[0]):
            value = float(found[2])
            if scenario is Scenario.OFFLINE:
                tuning = replace(tuning, target_qps=value)
            else:
                tuning = replace(tuning, expected_latency_ms=value)

    assert verdicts[0].outcome == "INVALID", verdicts[0].explain()
    assert "min_duration" in by_name(verdicts[0], Status.FAIL)
    assert verdicts[-1].outcome == "VALID", verdicts[-1].explain()


AUDIT = "*.*.min_duration = 700\n*.*.performance_issue_same = 1\n"
BARE = """
import mlperf_loadgen as lg
def issue(ids, indices):
    lg.QuerySamplesComplete([lg.QuerySampleResponse(i, 0, 0) for i in ids])
settings = lg.TestSettings()
settings.scenario = lg.TestScenario.SingleStream
settings.min_duration_ms, settings.min_query_count = 100, 1
sut = lg.ConstructFastSUT(issue, lambda: None)
qsl = lg.ConstructQSL(64, 64, lambda _: None, lambda _: None)
lg.StartTest(sut, qsl, settings)
"""


def test_a_stray_audit_config_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder it is started in, bare LoadGen obeys the file; the runner not."""
    (tmp_path / "audit.config").write_text(AUDIT)
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-c", BARE], check=True, timeout=300)
    runner = Runner(stall_s=60, build_s=60)
    job = doubles.make_task(
        tmp_path,
        scenario=Scenario.SINGLE_STREAM,
        seconds=0.3,
        tuning=replace(doubles.QUICK, expected_latency_ms=0.001),
    )
    verdict = verdict_of(job, runner.run(job))
    runner.close()
    bare, ours = Log.read(tmp_path), Log.read(Path(job.folder))

    assert bare.integer("effective_min_duration_ms") == 700
    assert bare.flag("effective_performance_issue_same")
    assert ours.integer("effective_min_duration_ms") == 300
    assert not ours.flag("effective_performance_issue_same")
    assert verdict.valid, verdict.explain()


@pytest.mark.parametrize(
    ("scenario", "queries"), [(Scenario.SINGLE_STREAM, 64), (Scenario.SERVER, 459)]
)
def test_a_run_that_is_over_at_once_still_asks_enough_to_be_valid(
    runner: Runner, tmp_path: Path, scenario: Scenario, queries: int
) -> None:
    """5 ms an answer, a run of 50 ms: ten queries prove no percentile."""
    rule = doubles.rule_for(scenario)
    if scenario is Scenario.SERVER:  # a busy machine may take its time
        rule = replace(rule, target_latency_ns=10**10)
    job = doubles.make_task(
        tmp_path, "SLOW_BATCH", scenario=scenario, rule=rule, seconds=0.05
    )
    verdict = verdict_of(job, runner.run(job))

    assert verdict.valid, verdict.explain()
    log = Log.read(Path(job.folder))
    assert log.integer("result_query_count") == queries


def test_samples_are_completed_twice_only_in_an_invalid_run(
    runner: Runner, tmp_path: Path
) -> None:
    """LoadGen counts such completions as errors, of which the verdict names the first,
    or is killed by them, which is one failed item.
    """
    tuning = replace(doubles.QUICK, expected_latency_ms=0.02)
    job = doubles.make_task(
        tmp_path, "TWICE", scenario=Scenario.SINGLE_STREAM, seconds=0.3, tuning=tuning
    )
    failed, said, death = set(), "", ""
    try:
        verdict = verdict_of(job, runner.run(job))
        failed, said = by_name(verdict, Status.FAIL), verdict.explain()
    except RunFailed as error:
        death = error.cause

    # How far it came before it was killed depends on the machine's speed, and so does
    # what it logged.
    assert "was ended by SIG" in death or "no_errors" in failed
    assert "was ended by SIG" in death or "twice" in said


def test_a_finished_run_leaves_no_mark_of_an_earlier_attempt(
    runner: Runner, tmp_path: Path
) -> None:
    """A folder that was partial is whole once its run has ended."""
    job = doubles.make_task(tmp_path, seconds=0.1)
    Path(job.folder).mkdir()
    (Path(job.folder) / PARTIAL).write_text("{}\n")
    runner.run(job)

    assert files(job) == PERFORMANCE_FILES
