"""A rehearsal: real LoadGen on synthetic data, labelled, and side by side."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting import table
from tests.support.newest import newest

CPUS = len(os.sched_getaffinity(0))
REAL = """
import pytest

@pytest.mark.mlperf(mode="performance")
def test_performance(cell, measure):
    verdict = measure(cell)
    if not verdict.valid:
        pytest.fail(verdict.explain(), pytrace=False)

@pytest.mark.mlperf(mode="accuracy")
def test_accuracy(cell, measure):
    verdict = measure(cell)
    if not verdict.valid:
        pytest.fail(verdict.explain(), pytrace=False)
"""
ABOUT_TIME = {"min_duration", "min_query_count", "min_sample_count"}


@pytest.fixture
def rehearsal(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with suites that use the plugin's own fixtures."""
    pytester.makepyfile(test_suite=REAL)
    return pytester


SHORT = ("--mlperf-rehearsal", "--mlperf-duration", "2")


def test_a_short_rehearsal_waives_what_is_about_time_and_nothing_else(
    rehearsal: pytest.Pytester,
) -> None:
    """At full length no rule would be waived: the data have the official sizes."""
    chosen = "3d-unet-99- or bert-99- and performance and not server"
    result = rehearsal.runpytest_subprocess(*SHORT, "-k", chosen)
    verdicts = [r.verdict_to_show() for r in newest(rehearsal).records]
    waived = {c.name for v in verdicts if v for c in v.waived}

    result.assert_outcomes(passed=6)
    assert waived <= ABOUT_TIME
    assert {v.benchmark for v in verdicts if v} == {"3d-unet-99", "bert-99"}


def test_every_place_that_names_a_result_says_rehearsal(
    rehearsal: pytest.Pytester,
) -> None:
    """Header, table, junit and results.jsonl; and none of them says embedded."""
    chosen = "test_performance and bert-99- and offline"
    result = rehearsal.runpytest_subprocess(
        *SHORT, "-k", chosen, "--junitxml=junit.xml"
    )
    (record,) = newest(rehearsal).records
    verdict = record.verdict
    junit = (rehearsal.path / "junit.xml").read_text()

    result.stdout.fnmatch_lines(
        [
            "mlperf: engine oracle; workload synthetic: a rehearsal, nothing *",
            "*VALID (rehearsal, shortened)*",
            "rehearsal: answers from the ground truth, nothing was measured",
        ]
    )
    result.stdout.no_fnmatch_line("*embedded*")
    assert verdict is not None
    assert verdict.labels == ("rehearsal", "shortened")
    assert verdict.facts["device"] == "simulated"
    assert verdict.facts["workload"].startswith("synthetic: ")
    assert '"mlperf.labels" value="rehearsal,shortened"' in junit


def test_workers_may_outnumber_the_devices_and_cells_stay_in_one_place(
    rehearsal: pytest.Pytester,
) -> None:
    """Cells run side by side; a cell's own items keep their order on one worker."""
    workers = CPUS + 1
    result = rehearsal.runpytest_subprocess(
        *SHORT, f"-n{workers}", "-k", "3d-unet or bert and performance and not server"
    )
    found = newest(rehearsal)
    places: dict[tuple[str, ...], list[str]] = {}
    for record in found.records:
        cell = record.cell
        key = (cell["benchmark"], cell["target"], cell["scenario"])
        places.setdefault(key, []).append(cell["mode"])

    assert result.ret == pytest.ExitCode.OK
    assert all(r.verdict and r.verdict.valid for r in found.records)
    assert sum(modes == ["performance", "accuracy"] for modes in places.values()) == 4
    assert not any(r.reason for r in found.records)


def test_accuracy_is_computed_from_the_whole_synthetic_set(
    rehearsal: pytest.Pytester,
) -> None:
    """10,833 windows are answered and scored as F1 of text."""
    result = rehearsal.runpytest_subprocess(
        *SHORT, "-k", "test_accuracy and bert-99- and offline"
    )
    (record,) = newest(rehearsal).records
    verdict = record.verdict

    result.assert_outcomes(passed=1)
    assert verdict is not None
    assert verdict.metric is not None
    assert (verdict.metric.key, verdict.metric.value) == ("F1", 100.0)
    assert not verdict.waived
    passed = {c.name for c in verdict.checks if c.status is Status.PASS}
    assert {"whole_dataset", "dataset_size", "accuracy_hash"} <= passed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mlperf-rehearsal", "--mlperf-engine", "null"], "asks for null; leave"),
        (["--mlperf-rehearsal", "--mlperf-engine", "oracle,null"], "oracle,null"),
        (["--mlperf-rehearsal", "--mlperf-workload", "official"], "for official"),
        (["--mlperf-rehearsal", "--mlperf-workload", "embedded"], "for embedded"),
        (["--mlperf-engine", "oracle"], "ask for it with --mlperf-rehearsal"),
        (
            ["--mlperf-rehearsal", "--mlperf-devices-per-item", "2"],
            "--mlperf-devices-per-item is about a device, and --mlperf-rehearsal uses",
        ),
    ],
)
def test_a_rehearsal_of_something_else_is_a_usage_error(
    suite: pytest.Pytester, arguments: list[str], said: str
) -> None:
    """Before anything runs, the two wishes that exclude each other are named."""
    result = suite.runpytest(*arguments)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{said}*"])


@pytest.mark.parametrize(
    "given",
    [
        "mlperf_engine = null",
        "mlperf_workload = official",
        "mlperf_devices_per_item = all",
    ],
)
def test_an_ini_default_yields_to_a_rehearsal(
    suite: pytest.Pytester, given: str
) -> None:
    """A default that measures is set aside for a session that does not."""
    suite.makeini(f"[pytest]\n{given}")
    result = suite.runpytest("--mlperf-rehearsal", "--collect-only", "-q", "-k", "bert")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*bert-99-offline-oracle*"])
    result.stdout.no_fnmatch_line("*null*")
    result.stdout.no_fnmatch_line("*devices per item*")


def test_benchmarks_without_an_engine_are_there_for_a_rehearsal_alone(
    suite: pytest.Pytester,
) -> None:
    """Elsewhere they are skipped; token by token nobody can rehearse."""
    marks = ("--strict-markers", "-m", "not gptj and not null")
    rehearsed = suite.runpytest(
        "--mlperf-rehearsal", "--collect-only", "-q", *marks
    ).outlines
    ids = [line.partition("[")[2].rstrip("]") for line in rehearsed if "[" in line]
    models = {name.rsplit("-", 2)[0] for name in ids}
    plain = suite.runpytest("-k", "dlrm-v3 and offline and performance", "-rs")

    assert {"3d-unet-99.9", "retinanet", "dlrm-v3", "yolo-95", "bert-99"} < models
    assert not {"llama2-70b-99", "gptj-99", "deepseek-r1"} & models
    plain.assert_outcomes(skipped=1)
    plain.stdout.fnmatch_lines(
        ["*dlrm-v3 is a benchmark of v6.1, but no installed package runs it*"]
    )


def test_a_round_limits_what_is_rehearsed(suite: pytest.Pytester) -> None:
    """Retinanet left before v6.1."""
    found = suite.runpytest(
        "--mlperf-rehearsal", "--mlperf-round", "v6.1", "--collect-only", "-q"
    )

    found.stdout.fnmatch_lines(["*3d-unet-99-offline-oracle*"])
    found.stdout.no_fnmatch_line("*retinanet*")


def test_a_rehearsal_at_full_length_is_not_called_waived(
    make_verdict: Callable[..., Verdict],
) -> None:
    """All rules were held to; the table says what it was, and prefers no row."""
    verdicts = [make_verdict(labels=("rehearsal",), engine=e) for e in ("oracle", "b")]
    rows = table.make_rows(verdicts)
    lines = table.render_rows(rows, 100, colour=False)

    assert "2 VALID (rehearsal)" in lines[0]
    assert not any("waived" in line for line in lines)
    assert {row.comparable for row in rows} == {()}
