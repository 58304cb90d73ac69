"""Sessions as they look when all of their runs ended well, at the official size.

Logs come from ``logs`` and have what the official checkers read; verdicts are
stated, because what is tested here begins where the judge has spoken.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from pytest_mlperf.core import rounds
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.submission.runs import Run
from pytest_mlperf.core.submission.runs import read_run
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import VERDICT_FILE
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from tests.support import logs
from tests.support import trees

FACTS = RunFacts(precision="int8", workload="synthetic", input_types=("fp32",))
EDGE = (
    ("resnet50", "", ("SingleStream", "MultiStream", "Offline")),
    ("bert", "99", ("SingleStream", "Offline")),
)
"""A closed edge submission of two benchmarks."""
BUILD = "b" * 64


def rule_of(round_name: str, benchmark: str, target: str, scenario: str) -> Rule:
    found = rounds.get(round_name).find(benchmark, target, Scenario(scenario))
    assert found is not None
    return found


def complete(
    reports: Path,
    round_name: str,
    rows: Iterable[tuple[str, str, Iterable[str]]] = EDGE,
    labels: tuple[str, ...] = (),
) -> list[Run]:
    """Write every run that a closed submission of these rows needs."""
    return [
        run
        for benchmark, target, scenarios in rows
        for scenario in scenarios
        for run in cell(
            reports, rule_of(round_name, benchmark, target, scenario), labels
        )
    ]


def cell(reports: Path, rule: Rule, labels: tuple[str, ...] = ()) -> list[Run]:
    """Write performance, accuracy and compliance of one cell."""
    home = reports / "logs" / f"{rule.model}-{rule.scenario.slug}-onnxruntime"
    found = [performance(home / "performance", rule, labels=labels)]
    found.append(accuracy(home / "accuracy", rule, labels=labels))
    for test in rule.compliance:
        found.append(compliance(home / test, rule, labels=labels))
    return found


def performance(
    folder: Path,
    rule: Rule,
    *,
    slower: float = 1.0,
    labels: tuple[str, ...] = (),
    build: str = BUILD,
    test: str = "",
) -> Run:
    """Write a performance run, or an audited one; ``slower`` stretches latencies."""
    story = logs.STORIES[rule.scenario.loadgen]["latencies"]
    total, loaded = trees.SIZES[rule.benchmark]
    own = {"qsl_reported_total_count": total, "effective_accuracy_sample_count": total}
    logs.performance(
        folder,
        rule.scenario.loadgen,
        latencies=[int(latency * slower) for latency in story],
        change=own | trees.AUDITED.get(test, {}),
        warnings=["Found Audit Config file (audit.config)."] if test else [],
        seeds=rule.round,
        loaded=loaded,
    )
    conf = f"{rule.loadgen_model}.{rule.scenario.loadgen}.min_duration = 600000\n"
    (folder / "user.conf").write_text(conf)
    (folder / "mlperf_log_accuracy.json").write_text("[\n]\n")
    (folder / "mlperf_log_trace.json").write_text("")
    return state(folder, rule, "performance", labels=labels, build=build)


def accuracy(
    folder: Path, rule: Rule, *, labels: tuple[str, ...] = (), build: str = BUILD
) -> Run:
    """Write a scored accuracy run of the whole dataset."""
    own = rounds.get(rule.round).seeds
    total, _ = trees.SIZES[rule.benchmark]
    # MultiStream fills its last query up.
    more = 7 if rule.scenario is Scenario.MULTI_STREAM else 0
    logs.accuracy(
        folder,
        total=total,
        text=trees.TEXTS[rule.benchmark],
        scenario=rule.scenario.loadgen,
        change={
            "loaded_qsl_set": [*range(total), *range(more)],
            "effective_qsl_rng_seed": own.qsl,
            "effective_sample_index_rng_seed": own.sample_index,
            "effective_schedule_rng_seed": own.schedule,
        },
    )
    return state(folder, rule, "accuracy", labels=labels, build=build)


def compliance(folder: Path, rule: Rule, *, labels: tuple[str, ...] = ()) -> Run:
    """Write a passing audit's run and its official files."""
    test = folder.name
    performance(folder, rule, test=test)
    (folder / "verify_performance.txt").write_text("TEST PASS\n")
    if test == "TEST01":
        (folder / "verify_accuracy.txt").write_text("TEST PASS\n")
        whole = folder.parent / "accuracy" / "mlperf_log_accuracy.json"
        kept = whole.read_text().splitlines()[:400]
        text = "\n".join([*kept, kept[-1].rstrip(","), "]", ""])
        (folder / "mlperf_log_accuracy.json").write_text(text)
    return state(folder, rule, test, labels=labels)


def state(
    folder: Path,
    rule: Rule,
    mode: str,
    *,
    labels: tuple[str, ...] = (),
    build: str = BUILD,
    status: Status = Status.PASS,
    facts: RunFacts = FACTS,
) -> Run:
    """Leave a verdict in a run's folder and return the run."""
    metric = None
    if mode == "performance":
        metric = Metric(rule.result_key, figure(folder, rule.result_key), rule.unit)
    check = Check("rule", status, "found", "required", "mlperf_log_detail.txt:1", "do")
    verdict = Verdict(
        benchmark=rule.model,
        scenario=rule.scenario.value,
        engine="onnxruntime",
        mode=mode,
        round=rule.round,
        metric=metric,
        checks=(check,),
        labels=labels,
        folder=str(folder),
        build=build,
        facts=facts.to_texts(),
        run=facts,
    )
    (folder / VERDICT_FILE).write_text(verdict.to_json())
    return read_run(folder)


def figure(folder: Path, key: str) -> float:
    """Return a value of a detail log."""
    text = (folder / "mlperf_log_detail.txt").read_text()
    start = text.index(f'"key": "{key}"')
    return float(text[start:].split('"value": ')[1].split(",")[0])


def again(folder: Path, number: int = 2) -> Path:
    """Return the folder of a repetition, with the first one's files in it."""
    copy = folder.with_name(f"{folder.name}-{number}")
    shutil.copytree(folder, copy)
    return copy
