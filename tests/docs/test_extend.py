"""Each page of docs/extend: its package, found by entry point alone, runs to VALID."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from pytest_mlperf.benchmarks.files import EMBEDDED
from tests.support.documents import Project
from tests.support.documents import copy_package
from tests.support.documents import read_page
from tests.support.kserve_server import serve_model

QUICK = "--mlperf-duration=0.1", "--mlperf-target-qps=offline=600"
"""A load well above any machine's: where others work, the probe's would be too low for
the run to last long enough. These 66 samples take a second all the same."""
SHORT = "--mlperf-duration=0.2"
"""For an engine that only answers: LoadGen asks it a million times a second."""


def test_the_engine_of_its_page_runs(project: Project) -> None:
    """Performance and accuracy of a real model, on one build."""
    page = read_page("extend/engine.md")
    project.install(page)
    (command,) = page.commands
    # One layout, of streams with a thread each: the probe times every batch in every
    # layout, and threads that wait for one another use CPUs.
    outcome = project.run(command.line, "--mlperf-threads=1", *QUICK)

    outcome.expect(command.prints)
    assert outcome.code == 0
    assert [verdict.outcome for verdict in outcome.verdicts] == ["VALID", "VALID"]
    assert {verdict.engine for verdict in outcome.verdicts} == {"mine"}
    assert len({verdict.build for verdict in outcome.verdicts}) == 1


def test_the_service_of_its_page_answers_tensors(project: Project) -> None:
    """A real server on loopback answers resnet50 under the same rules."""
    page = read_page("extend/service.md")
    project.install(page)
    (command,) = page.commands
    with serve_model(EMBEDDED / "resnet50" / "efficientnet_lite0.onnx") as url:
        outcome = project.run(
            command.line.replace("http://127.0.0.1:8000", url),
            "--mlperf-endpoint-concurrency=8",
            *QUICK,
        )

    outcome.expect(command.prints)
    assert outcome.code == 0
    assert [verdict.outcome for verdict in outcome.verdicts] == ["VALID", "VALID"]
    for verdict in outcome.verdicts:
        assert verdict.engine == "kserve"
        assert verdict.facts["endpoints"] == url
        assert verdict.facts["model served"] == "resnet50, onnxruntime_onnx"
        answered, _, sent = verdict.facts["endpoint requests"].partition(" of ")
        assert answered == sent


def test_the_benchmark_of_its_page_times_tokens_by_rules_of_its_own(
    project: Project,
) -> None:
    """Its engine brings the model; every report says that it is unofficial."""
    page = read_page("extend/benchmark.md")
    # The page's limits, a hundred times as long: a machine that pauses for a second
    # must not decide what this is about.
    rules = page.files["counting.py"]
    page.files["counting.py"] = rules.replace("(500, 50)", "(50_000, 5_000)")
    project.install(page)
    (command,) = page.commands
    load = "--mlperf-target-qps=offline=1500,server=300"
    outcome = project.run(command.line, "--junit-xml=junit.xml", load)

    longer = {"of 500)": "of 50000)", "of 50)": "of 5000)"}
    pattern = re.compile("|".join(map(re.escape, longer)))
    outcome.expect([pattern.sub(lambda m: longer[m[0]], p) for p in command.prints])
    assert outcome.code == 0
    assert len(outcome.verdicts) == 4
    for verdict in outcome.verdicts:
        assert verdict.outcome == "VALID"
        assert "unofficial" in verdict.labels
        assert "unofficial" in verdict.explain().splitlines()[0]
        assert verdict.run.weights_file == ""
    speeds = {v.scenario: v for v in outcome.verdicts if v.mode == "performance"}
    assert {v.metric.unit for v in speeds.values() if v.metric} == {"tokens/s"}
    bounds = speeds["Server"].limit, speeds["Server"].tpot_limit
    assert [bound.value for bound in bounds if bound] == [50_000, 5_000]
    junit = (outcome.home / "junit.xml").read_text()
    assert (
        junit.count('name="mlperf.labels" value="embedded,shortened,unofficial"') == 4
    )


def test_an_engine_that_needs_an_onnx_file_says_who_brings_the_model(
    project: Project,
) -> None:
    """The default engine cannot build such a benchmark: an error in set-up."""
    project.install(read_page("extend/benchmark.md"))
    outcome = project.run(
        "pytest suites -k 'counting and offline and performance' --mlperf-duration 1"
    )

    outcome.expect(
        [
            "… ERROR at setup of test_performance[counting-offline-onnxruntime] …",
            "…brings no single ONNX file, but the engine onnxruntime builds from one…",
        ]
    )


def test_a_benchmark_with_its_own_rules_enters_no_submission(project: Project) -> None:
    """Although its files are official and no rule is waived; it is not even run."""
    page = read_page("extend/benchmark.md")
    era = "dataclasses.replace(v6_1.ERA, min_duration_ms=1_000),"
    text = page.files["counting.py"].replace("v6_1.ERA,", era)
    page.files["counting.py"] = text.replace("import time", "import dataclasses, time")
    project.install(page)
    outcome = project.run(
        "pytest suites -k 'counting and offline' --mlperf-engine counter --rootdir=. "
        "--mlperf-workload official --mlperf-scratch . "
        "--mlperf-submission ACME --mlperf-category datacenter"
    )

    refused = "ERROR: --mlperf-submission: counting by rules of their own: no round …"
    outcome.expect([refused])
    assert outcome.code == 4
    assert not (outcome.home / "reports").exists()


def test_the_reporter_of_its_page_writes_its_file(project: Project) -> None:
    """The terminal lists it; its figures are those of results.jsonl."""
    page = read_page("extend/reporter.md")
    project.install(page)
    (command,) = page.commands
    outcome = project.run(command.line, SHORT)

    outcome.expect(command.prints)
    assert outcome.code == 0
    text = (outcome.home / "reports/latest/results.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["benchmark"], row["outcome"]) for row in rows] == [
        ("bert-99", "VALID"),
        ("bert-99.9", "VALID"),
    ]
    values = [v.metric.value for v in outcome.verdicts if v.metric]
    assert [float(row["value"]) for row in rows] == values
    assert {row["labels"] for row in rows} == {"embedded shortened null answers"}


def test_the_observer_of_its_page_adds_its_facts(project: Project) -> None:
    """They are in every verdict, and its file is beside LoadGen's logs."""
    page = read_page("extend/observer.md")
    project.install(page)
    (command,) = page.commands
    outcome = project.run(command.line, SHORT)

    outcome.expect(command.prints)
    assert outcome.code == 0
    for verdict in outcome.verdicts:
        assert verdict.outcome == "VALID"
        assert " CPUs" in verdict.facts["load after"]
        assert verdict.facts["highest mean rate"].endswith(" samples/s")
        assert (Path(verdict.folder) / "load.txt").is_file()


def test_the_rules_of_their_page_judge_and_their_compliance_test_runs(
    project: Project,
) -> None:
    """Performance, accuracy and SAME01 of one build; nothing is waived but the size."""
    page = read_page("extend/rule.md")
    project.install(page)
    (command,) = page.commands
    outcome = project.run(command.line)

    outcome.expect(command.prints)
    assert outcome.code == 0
    verdicts = {verdict.mode: verdict for verdict in outcome.verdicts}
    assert list(verdicts) == ["performance", "accuracy", "SAME01"]
    assert {verdict.outcome for verdict in verdicts.values()} == {"VALID"}
    assert {verdict.labels for verdict in verdicts.values()} == {
        ("embedded", "unofficial")
    }
    (check,) = [c for c in verdicts["SAME01"].checks if c.name == "same_answers"]
    found, _, logged = check.found.partition(" of ")
    assert f"{found} answers" == logged
    folder = Path(verdicts["SAME01"].folder)
    assert (folder / "verify_accuracy.txt").read_text() == "TEST PASS\n"


def test_the_round_of_its_page_judges_once_its_file_is_there(project: Project) -> None:
    """A copy of the package with one file more."""
    page = read_page("extend/round.md")
    (command,) = page.commands
    copy = copy_package(project.home.parent / "clone")
    rounds = copy / "pytest_mlperf/core/rounds"
    (rounds / "v7_0.py").write_text(page.files["v7_0.py"])
    outcome = project.run(command.line, SHORT, first_on_path=copy)

    outcome.expect(command.prints)
    assert outcome.code == 0
    (verdict,) = outcome.verdicts
    assert (verdict.outcome, verdict.round) == ("VALID", "v7.0")
    assert "unofficial" not in verdict.labels
