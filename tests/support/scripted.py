"""Real LoadGen runs whose queries are late by a script: which, of what, by how much."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.judge.judge import judge
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Verdict
from tests.support.pauses import TICK

SAMPLES = 64
BOUND_NS = 250_000_000
"""Far above what a busy machine delays an answer by that is given at once."""
LATE_S = 0.35

SCRIPT = """
import array, json, queue, sys, threading, time
import mlperf_loadgen as lg

plan = json.loads(sys.argv[1])
scenario, tokens, late = plan["scenario"], plan["tokens"], set(plan["late"])
settings = lg.TestSettings()
settings.FromConfig("", plan["model"], scenario, 0)
settings.scenario = getattr(lg.TestScenario, scenario)
settings.mode = lg.TestMode.PerformanceOnly
for name, value in plan["settings"].items():
    setattr(settings, name, value)

ANSWER = array.array("B", b"0123")
ADDRESS = ANSWER.buffer_info()[0]
waiting = queue.SimpleQueue()
issued = 0

def first(answers):
    if tokens and scenario != "Offline":
        lg.FirstTokenComplete(answers)

def serve():
    while (job := waiting.get()) is not None:
        due, answers, with_first = job
        time.sleep(max(0, due - time.monotonic()))
        if with_first:
            first(answers)
        lg.QuerySamplesComplete(answers)

def issue(queries):
    global issued
    answers = [
        lg.QuerySampleResponse(q.id, ADDRESS, 4, *([tokens] if tokens else []))
        for q in queries
    ]
    number, issued = issued, issued + 1
    if number in late:
        tardy = plan["what"] != "rest"
        if not tardy:
            first(answers)
        waiting.put((time.monotonic() + plan["late_s"], answers, tardy))
        return
    took = plan["service_s"] * (len(queries) if scenario == "Offline" else 1)
    if scenario == "Server" and took:
        # One after the other, as an engine does; LoadGen goes on issuing.
        global free
        free = max(free, time.monotonic()) + took
        waiting.put((free, answers, True))
        return
    time.sleep(took)
    first(answers)
    lg.QuerySamplesComplete(answers)

free = 0.0
worker = threading.Thread(target=serve)
worker.start()
sut = lg.ConstructSUT(issue, lambda: None)
count = plan["samples"]
qsl = lg.ConstructQSL(count, count, lambda indices: None, lambda indices: None)
log = lg.LogSettings()
log.enable_trace = False
log.log_output.outdir = plan["folder"]
watch = begin_watch(plan["folder"])
lg.StartTestWithLogSettings(sut, qsl, settings, log, "")
end_watch(watch)
waiting.put(None)
worker.join()
"""


def rule_of(
    benchmark: str, scenario: Scenario, target: str = "", **fields: Any
) -> Rule:
    """Return v6.1's rule with a run of milliseconds and ``fields`` in its place.

    Nothing is waived: what the run is held to is all in the rule.
    """
    found = rounds.get("v6.1").find(benchmark, target, scenario)
    assert found is not None
    return replace(
        found,
        **{
            "min_duration_ms": 50,
            "min_query_count": 1,
            "min_sample_count": 1,
            "performance_sample_count": SAMPLES,
            "equal_issue": False,
            **fields,
        },
    )


def settings_of(rule: Rule, **attributes: Any) -> dict[str, Any]:
    """Return the TestSettings of a run by a rule."""
    values: dict[str, Any] = {
        "min_duration_ms": rule.min_duration_ms,
        "min_query_count": rule.min_query_count,
        "performance_sample_count_override": SAMPLES,
        "sample_concatenate_permutation": rule.equal_issue,
        "single_stream_expected_latency_ns": 1_000_000,
        "multi_stream_expected_latency_ns": 1_000_000,
        "server_target_qps": 2000.0,
        "offline_expected_qps": 2000.0,
    }
    bounds = {
        "server_target_latency_ns": rule.target_latency_ns,
        "ttft_latency": rule.ttft_ns,
        "tpot_latency": rule.tpot_ns,
    }
    values |= {name: bound for name, bound in bounds.items() if bound is not None}
    return values | attributes


def run(
    folder: Path,
    rule: Rule,
    *,
    late: Iterable[int] = (),
    what: str = "answer",
    tokens: int = 0,
    service_s: float = 0.0,
    **attributes: Any,
) -> Path:
    """Run LoadGen by a rule and return its folder.

    The queries numbered in ``late`` are answered ``LATE_S`` after the others; ``rest``:
    with their first token in time. A sample takes ``service_s``.
    """
    folder.mkdir(parents=True)
    plan = {
        "folder": str(folder),
        "model": rule.loadgen_model,
        "scenario": rule.scenario.loadgen,
        "samples": SAMPLES,
        "settings": settings_of(rule, **attributes),
        "late": sorted(late),
        "late_s": LATE_S,
        "what": what,
        "tokens": tokens,
        "service_s": service_s,
    }
    script = [sys.executable, "-c", TICK + SCRIPT, json.dumps(plan)]
    subprocess.run(script, check=True, timeout=300)
    return folder


def verdict(folder: Path, rule: Rule, settings: Settings | None = None) -> Verdict:
    """Judge a folder by a rule of v6.1."""
    context = Context(settings=settings)
    return judge(folder, Cell(rule, "null"), Mode.PERFORMANCE, context)
