"""Results of the real client: judged VALID, and not with one field changed."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core import rounds
from pytest_mlperf.core.endpoints.judge import identify_run
from pytest_mlperf.core.endpoints.judge import run_checks
from pytest_mlperf.core.endpoints.run import EndpointsRun
from pytest_mlperf.core.endpoints.run import JudgedResult
from pytest_mlperf.core.logs.discover import find_runs
from pytest_mlperf.core.logs.lines import LONG_LINE
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from tests.support.endpoints import CONFIG
from tests.support.endpoints import DATA
from tests.support.endpoints import MODEL
from tests.support.endpoints import SCORES
from tests.support.endpoints import SUMMARY
from tests.support.endpoints import Change
from tests.support.endpoints import both
from tests.support.endpoints import configure
from tests.support.endpoints import edit
from tests.support.endpoints import make_result
from tests.support.endpoints import overwrite

SEED = "scheduler_random_seed: 16159082839903944936"


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A server's real result below the names of a benchmark and a scenario."""
    return make_result(tmp_path / MODEL / "Server")


def judge(folder: Path, round_name: str = "") -> list[Verdict]:
    """Return the verdicts of accuracy and performance, in this order."""
    return [identify_run(place, round_name) for place in find_runs(folder)]


def failed(verdict: Verdict) -> set[str]:
    """Return the names of the checks that failed or are in error."""
    bad = [c for c in verdict.checks if c.status in (Status.FAIL, Status.ERROR)]
    assert all(check.remedy for check in bad)
    return {check.name for check in bad}


def test_a_real_result_is_valid(result: Path) -> None:
    """Both runs, by the round of their seeds, with the client's own figures."""
    accuracy, performance = judge(result)
    summary = json.loads((result / SUMMARY).read_text("utf-8"))

    assert [failed(accuracy), failed(performance)] == [set(), set()]
    assert accuracy.valid
    assert performance.valid
    assert {accuracy.round, performance.round} == {"v6.1"}
    assert performance.metric is not None
    assert performance.metric.value == summary["tps"]
    assert performance.metric.unit == "tokens/s"
    assert accuracy.metric is not None
    assert round(accuracy.metric.value, 2) == 96.0


def test_a_drained_run_is_not_the_complete_one_that_the_client_calls_it(
    tmp_path: Path,
) -> None:
    """2,207 of 6,396 were answered; the official checker is content with it."""
    folder = make_result(tmp_path / MODEL / "Offline", "drained", accuracy=False)
    (performance,) = judge(folder)
    summary = json.loads((folder / SUMMARY).read_text("utf-8"))

    assert (summary["state"], summary["n_samples_failed"]) == ("complete", 0)
    assert failed(performance) == {"all_completed", "min_duration"}


def link(name: str) -> Change:
    """Return a change that puts the file elsewhere, and a link to it in its place."""

    def change(folder: Path) -> None:
        path = folder / name
        elsewhere = path.rename(folder.parent / path.name)
        path.symlink_to(elsewhere)

    return change


PERFORMANCE: list[tuple[str, Change]] = [
    ("no_errors", edit(SUMMARY, "n_samples_failed", to=1)),
    ("no_errors", edit(SUMMARY, "state", to="interrupted")),
    ("no_errors", edit(SUMMARY, "complete", to=False)),
    ("no_errors", edit(SUMMARY, "n_samples_failed", to="0")),
    ("all_completed", edit(SUMMARY, "n_samples_issued", to=2001)),
    ("seeds", configure(SEED, "scheduler_random_seed: 42")),
    ("seeds", configure("    " + SEED + "\n", "")),
    ("requested_settings", configure(SEED, "scheduler_random_seed: 42")),
    ("requested_settings", configure("target_qps: 3.0", "target_qps: 30.0")),
    ("min_duration", configure("min_duration_ms: 600000", "min_duration_ms: 60000")),
    ("min_duration", edit(SUMMARY, "duration_ns", to=599_999_999_999)),
    ("scenario", configure("type: online", "type: offline")),
    ("scenario", configure("type: online", "type: eval")),
    ("served_model", configure("name: openai/gpt-oss-120b", "name: llama2-70b")),
    ("latency_bound",
     edit(SUMMARY, "ttft", "early_stopping_percentiles", "99.0", to=3_000_000_000)),
    ("latency_bound",
     edit(SUMMARY, "tpot", "early_stopping_percentiles", "99.0", to=80_000_000.0)),
    ("latency_bound",
     edit(SUMMARY, "ttft", "early_stopping_percentiles", "99.0", to=None)),
    ("latency_bound", edit(SUMMARY, "ttft", "early_stopping_percentiles", to=...)),
    ("latency_bound", edit(SUMMARY, "tpot", to={})),
    ("metric_present", edit(SUMMARY, "tps", to=None)),
    ("metric_present", edit(SUMMARY, "tps", to=0)),
    ("figures_agree", edit(SUMMARY, "tps", to=lambda value: value * 1.001)),
    ("figures_agree", edit(SUMMARY, "qps", to=lambda value: value * 1.001)),
    ("figures_agree", edit(SUMMARY, "latency", "avg", to=lambda value: value * 0.9)),
    ("figures_agree", edit(SUMMARY, "ttft", "max", to=10**12)),
    ("figures_agree", edit(SUMMARY, "ttft", "percentiles", "12.5", to=10**9)),
    ("in_flight", both(configure("type: poisson", "type: concurrency"),
                       configure("target_qps: 3.0", "target_concurrency: 19"))),
    ("compliance_output_length",
     edit(SUMMARY, "output_sequence_lengths", "total", to=lambda value: value * 2)),
    ("log", lambda folder: (folder / CONFIG).unlink()),
    ("log", lambda folder: (folder / SUMMARY).unlink()),
    ("log", overwrite(SUMMARY, b'{"a": 1, "a": 2}')),
    ("log", overwrite(SUMMARY, b"[]")),
    ("log", overwrite(SUMMARY, b'{"a": 1}' + b" " * LONG_LINE)),
    ("log", overwrite(SUMMARY, b"\xff")),
    ("log", overwrite(CONFIG, b"a: {b: c}\n")),
    ("log", link(CONFIG)),
    ("log", link(SUMMARY)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "change"),
    PERFORMANCE,
    ids=[f"{r}-{n}" for n, (r, _) in enumerate(PERFORMANCE)],
)
def test_a_performance_run_with_one_change_breaks_its_rule(
    result: Path, rule: str, change: Change
) -> None:
    """The real one passes that rule (test_a_real_result_is_valid)."""
    change(result)
    performance = judge(result)[-1]

    assert rule in failed(performance)


SCORE = ("accuracy_scores", 0)
ACCURACY: list[tuple[str, Change]] = [
    ("whole_dataset", edit(SCORES, *SCORE, "complete", to=False)),
    ("whole_dataset", edit(SCORES, *SCORE, "unit_samples", to=4394)),
    ("whole_dataset", edit(SCORES, *SCORE, "response_counts", "empty", to=1)),
    ("whole_dataset", edit(SCORES, *SCORE, "response_counts", "missing", to=1)),
    ("whole_dataset", edit(SCORES, *SCORE, "response_counts", "scored", to=4394)),
    ("whole_dataset", edit(SCORES, *SCORE, "response_counts", "issued", to=4394)),
    ("whole_dataset", edit(SCORES, "accuracy_scores", to=[])),
    ("scored_datasets", edit(SCORES, *SCORE, "dataset_name", to="another")),
    ("scored_datasets", edit(SCORES, *SCORE, "num_repeats", to=3)),
    ("dataset_size", edit(SCORES, *SCORE, "total_samples", to=4394)),
    ("average_accuracy", edit(SCORES, "average_accuracy", to=0.99)),
    ("accuracy_exact_match", edit(SCORES, *SCORE, "score", to=0.8229)),
    ("accuracy_exact_match", edit(SCORES, *SCORE, "score", to=96.0)),
    ("accuracy_exact_match", edit(SCORES, *SCORE, "score", to=None)),
    ("accuracy_exact_match", edit(SCORES, *SCORE, "score", to="high")),
    ("accuracy_exact_match", configure("string_match", "a_scorer_of_my_own")),
    ("accuracy_TOKENS_PER_SAMPLE",
     edit(SCORES, *SCORE, "output_sequence_lengths", "avg", to=11_000)),
    ("seeds", configure(SEED, "scheduler_random_seed: 42")),
    ("log", overwrite(SCORES, b"")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "change"), ACCURACY, ids=[f"{r}-{n}" for n, (r, _) in enumerate(ACCURACY)]
)
def test_an_accuracy_run_with_one_change_breaks_its_rule(
    result: Path, rule: str, change: Change
) -> None:
    """The checker compares the score of one model alone, and no counts of failures."""
    change(result)
    accuracy = judge(result)[0]

    assert rule in failed(accuracy)


def test_a_target_is_reached_at_its_very_value(result: Path) -> None:
    """83.13 x 0.99 percent, written as a share of 1."""
    for score, passes in ((83.13 * 0.99 / 100 + 1e-9, True), (0.82, False)):
        edit(SCORES, *SCORE, "score", to=score)(result)
        edit(SCORES, "average_accuracy", to=score)(result)

        assert judge(result)[0].valid is passes


def test_the_open_division_reports_an_accuracy_and_is_held_to_none(
    tmp_path: Path,
) -> None:
    """It is waived, not passed; TEST09 is not asked for."""
    folder = tmp_path / f"open/ACME/results/box/{MODEL}/Server"
    edit(SCORES, *SCORE, "score", to=0.5)(make_result(folder))
    edit(SCORES, "average_accuracy", to=0.5)(folder)
    accuracy, performance = judge(folder)

    assert accuracy.valid
    assert [check.name for check in accuracy.waived] == ["accuracy_exact_match"]
    assert performance.valid
    assert "compliance_output_length" not in {c.name for c in performance.checks}


def test_a_scale_of_the_configuration_is_that_of_the_score(result: Path) -> None:
    """Clients of another version scale the scores themselves."""
    configure("    num_repeats: 1\n", "    num_repeats: 1\n    scale: 100.0\n")(result)
    small = failed(judge(result)[0])
    for keys in ((*SCORE, "score"), ("average_accuracy",)):
        edit(SCORES, *keys, to=lambda value: value * 100)(result)

    assert small == {"accuracy_exact_match"}
    assert judge(result)[0].valid


def test_fewer_than_loadgen_would_ask_for_is_a_note(tmp_path: Path) -> None:
    """The official checker does not ask an Offline endpoints result for a count."""
    folder = make_result(tmp_path / MODEL / "Offline", "drained", accuracy=False)
    edit(SUMMARY, "n_samples_issued", to=2207)(folder)
    (performance,) = judge(folder)
    waived = [check.name for check in performance.waived]

    assert waived == ["min_sample_count"]


@pytest.mark.parametrize("name", ["v5.1", "v6.0"])
def test_a_round_that_takes_loadgen_alone_is_said_to_be_one(
    result: Path, name: str
) -> None:
    """An error with the round that takes it; never judged by other rules."""
    verdicts = judge(result, name)
    checks = [check for verdict in verdicts for check in verdict.checks]

    assert [verdict.outcome for verdict in verdicts] == ["ERROR", "ERROR"]
    assert [check.name for check in checks] == ["rule", "rule"]
    assert all("--round v6.1" in check.remedy for check in checks)


def test_a_stream_holds_one_request_in_flight(tmp_path: Path) -> None:
    """Wan's SingleStream is reported in seconds; the checker believes the folder."""
    model = "wan-2.2-t2v-a14b"
    folder = make_result(tmp_path / model / "SingleStream", "stream", accuracy=False)
    configure("name: openai/gpt-oss-120b", "name: wan22")(folder)
    (stream,) = judge(folder)
    configure("target_concurrency: 1", "target_concurrency: 2")(folder)
    (two,) = judge(folder)

    assert failed(stream) == {"min_duration"}
    assert stream.metric is not None
    assert stream.metric.unit == "s"
    assert round(stream.metric.value, 3) == 5.993
    assert {"scenario", "requested_settings"} <= failed(two)


def test_conversations_one_after_another_are_a_stream(tmp_path: Path) -> None:
    """qwen3.6-27b's load: every published result of v6.1 has this pattern."""
    folder = make_result(
        tmp_path / "qwen3.6-27b/SingleStream", "stream", accuracy=False
    )
    configure("name: openai/gpt-oss-120b", "name: Qwen/Qwen3.6-27B")(folder)
    configure("type: concurrency", "type: agentic_inference")(folder)
    edit(SUMMARY, "run_config", "load_pattern", "type", to="agentic_inference")(folder)
    (one,) = judge(folder)
    configure("target_concurrency: 1", "target_concurrency: 2")(folder)
    (two,) = judge(folder)

    assert failed(one) == {"min_duration"}
    assert {"scenario", "requested_settings"} <= failed(two)


def test_a_model_that_only_loadgen_may_enter_is_refused(tmp_path: Path) -> None:
    """Seven are allowed."""
    folder = make_result(tmp_path / "llama2-70b-99.9/Server", accuracy=False)
    (performance,) = judge(folder)

    assert "endpoints_model" in failed(performance)


def test_the_report_folder_of_the_client_says_itself_what_it_is() -> None:
    """Model and scenario are in its configuration."""
    (performance,) = judge(DATA / "drained")

    assert (performance.benchmark, performance.scenario) == (MODEL, "Offline")


def test_what_the_publishing_script_writes_is_found(result: Path) -> None:
    """Its performance/run_1 has the configuration beside the summary."""
    run = result / "performance/run_1"
    run.mkdir()
    (result / SUMMARY).rename(run / "result_summary.json")
    shutil.copy(result / CONFIG, run)

    assert [verdict.valid for verdict in judge(result)] == [True, True]


def test_loadgen_logs_decide_where_both_harnesses_wrote(result: Path) -> None:
    """As the official checker has it."""
    (result / "performance/mlperf_log_detail.txt").write_text("none")
    performance = judge(result)[-1]

    assert performance.checks[0].name == "log"
    assert "LoadGen" in performance.checks[0].required


FREE = {
    "version", "git_sha", "test_started_at", "finish_reason_counts", "std_dev",
    "warmup", "osl_tokenization_s", "extractor", "ground_truth_column", "duration_s",
    "dataset_type", "osl_tokenize_s",
}  # fmt: skip
"""Names of values that say nothing about the result."""
LOOSE = {"percentiles", "early_stopping_percentiles", "max", "duration_ns", "buckets"}
"""Values that others bound, to more than a thousandth."""


def find_leaves(value: Any, keys: tuple[str | int, ...] = ()) -> Iterator[Any]:
    """Yield the path and the value of every leaf."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        yield keys, value
    for key, inner in items:
        yield from find_leaves(inner, (*keys, key))


def spoil(value: Any, *, loose: bool) -> Iterator[Any]:
    """Yield values in the place of one, ``...`` for none; none of them can be right."""
    yield from (None, "x", -1, ...) if value is not None else (1,)
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value * 1000 + 1000
        if not loose:
            yield value * 1.001 + 1
    yield 1e300


def replace_leaf(values: Any, keys: tuple[str | int, ...], other: Any) -> Any:
    """Return a copy with another value at a path."""
    copied = copy.deepcopy(values)
    place = copied
    for key in keys[:-1]:
        place = place[key]
    if other is ...:
        del place[keys[-1]]
    else:
        place[keys[-1]] = other
    return copied


def find_unnoticed(
    folder: Path, is_free: Callable[[str], bool]
) -> tuple[int, list[Any]]:
    """Return how many changes of a run's file were tried, and which it survives."""
    run, table = EndpointsRun.read(folder), rounds.get("v6.1")
    rule = table.find(MODEL, "", Scenario.SERVER)
    assert rule is not None
    tried, unnoticed = 0, []
    for keys, value in find_leaves(run.result.values):
        words = {*map(str, keys)}
        if FREE & words or is_free(".".join(map(str, keys))):
            continue
        for other in spoil(value, loose=bool(LOOSE & words)):
            changed = replace_leaf(run.result.values, keys, other)
            result = replace(run.result, values=changed)
            judged = JudgedResult(
                replace(run, result=result), rule, table, Scenario.SERVER
            )
            states = {check.status for check in run_checks(judged)}
            tried += 1
            if not states & {Status.FAIL, Status.ERROR}:
                unnoticed.append((keys, value, other))
    return tried, unnoticed


def test_no_field_of_a_summary_can_be_changed_unnoticed(result: Path) -> None:
    """Every leaf of the real file, taken out or replaced: never VALID."""
    tried, unnoticed = find_unnoticed(result / "performance", is_free=inner_bucket)

    assert unnoticed == []
    assert tried > 1000


def inner_bucket(name: str) -> bool:
    """True for an edge of a histogram that nothing is compared with."""
    return ".buckets." in name and not name.endswith((".0.0", ".29.1"))


def test_no_field_of_the_scores_can_be_changed_unnoticed(result: Path) -> None:
    """The rest of the answers' lengths is the mean's, which is bounded."""
    lengths = "accuracy_scores.0.output_sequence_lengths."
    used = (lengths + "total", lengths + "avg")
    tried, unnoticed = find_unnoticed(
        result / "accuracy",
        is_free=lambda name: name.startswith(lengths) and not name.startswith(used),
    )
    # A mean that is not measured is no fault: the round has an upper limit alone.
    unnoticed = [one for one in unnoticed if one[0][-1] != "avg" or one[2] is not None]

    assert unnoticed == []
    assert tried > 50
