"""A benchmark for services: the prompt of sample ``i`` is ``q<i>``; any answer will do.

Named by dotted spec (``tests.support.service_doubles:ASKING``), as in ``doubles``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.samples import Prompt
from pytest_mlperf.core import compliance
from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.judge.judge import judge
from pytest_mlperf.core.plan import Shortening
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import ServiceSpec
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.sut.tuned_load import ServiceTuned

SAMPLES = 64
TOKENS = 8
SPEC = "tests.support.service_doubles:ASKING"
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@dataclass(frozen=True, slots=True)
class Asking:
    """A ``PromptWorkload``."""

    kind: str = "embedded"
    title: str = "asking"
    digest: str = "asking"
    total: int = SAMPLES
    performance_count: int = SAMPLES
    reads_ids: bool = True
    reference: Mapping[str, float] = field(
        default_factory=lambda: {
            "ROUGE1": 50.0, "ROUGE2": 50.0, "ROUGEL": 50.0, "ROUGELSUM": 50.0,
            "GEN_LEN": 192.0,
        }
    )  # fmt: skip
    sampling: Mapping[str, Any] = field(default_factory=dict)
    unjudged: Mapping[str, str] = field(default_factory=dict)

    def during(self, mode: Mode) -> Asking:  # noqa: ARG002 - one shape
        return self

    def prompt(self, index: int) -> Prompt:
        return Prompt(f"q{index}", max_tokens=TOKENS)

    def encode(self, answer: Answer) -> bytes:
        if answer.token_ids:
            return np.array(answer.token_ids, "<i4").tobytes()
        return answer.text.encode()

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return the share of answers that are ``abc``, in place of every metric."""
        share = 100 * sum(raw == b"abc" for raw in answers.values()) / self.total
        return {**dict.fromkeys(ROUGE, share), "gen_len": 3.0 * len(answers)}

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        return repr(dict(metrics))


@dataclass(frozen=True, slots=True)
class AskingBenchmark:
    """A ``Benchmark``."""

    name: str = "llama3.1-8b"
    aliases: tuple[str, ...] = ()
    metric: str = "ROUGE1"
    takes: frozenset[str] = frozenset({"prompts"})
    rules: tuple[Rule, ...] = ()
    kind: str = "embedded"
    changes: Mapping[str, Any] = field(default_factory=dict)

    def precision(self, target: str) -> str:  # noqa: ARG002 - one shape
        return "q8_0"

    def open_workload(self, kind: str, scratch: Path | None) -> Asking:  # noqa: ARG002
        return Asking(kind=self.kind, **self.changes)


ASKING = AskingBenchmark()
WORDS = AskingBenchmark(changes={"reads_ids": False})
UNJUDGED = AskingBenchmark(changes={"unjudged": {"ROUGE1": "it is a program"}})
OFFICIAL = AskingBenchmark(kind="official")
SAMPLED = AskingBenchmark(changes={"sampling": {"min_tokens": 2, "top_k": -1}})


def rule_for(scenario: Scenario) -> Rule:
    """Return v6.1's rule for a Llama 3.1 of 8 billion parameters."""
    edge = scenario is Scenario.SINGLE_STREAM
    name = "llama3.1-8b-edge" if edge else "llama3.1-8b"
    found = rounds.get("v6.1").find(name, "", scenario)
    assert found is not None
    return found


def make_task(
    folder: Path,
    urls: Sequence[str],
    scenario: Scenario = Scenario.INTERACTIVE,
    mode: Mode = Mode.PERFORMANCE,
    *,
    seconds: float = 0.5,
    tuning: Tuning | None = None,
    spec: str = SPEC,
    rule: Rule | None = None,
    audit: str = "",
    tuned: ServiceTuned | None = None,
    **changes: Any,
) -> Task:
    """Return a task of half a second against these endpoints."""
    given: dict[str, Any] = {"concurrency": 8, "warm_up": 0, **changes}
    rule = rule or rule_for(scenario)
    return Task(
        cell=Cell(rule, "endpoint"),
        mode=mode,
        seeds=rounds.get("v6.1").seeds,
        provider=registry.reference("service", "endpoint"),
        benchmark=registry.reference("benchmark", spec),
        precision="",
        folder=folder / "logs",
        workload="embedded",
        cache=folder / "cache",
        cpus=tuple(sorted(os.sched_getaffinity(0))),
        tuning=tuning or Tuning(target_qps=1200, expected_latency_ms=2),
        shortening=Shortening(int(seconds * 1000), f"--mlperf-duration {seconds:g}"),
        service=ServiceSpec(urls=tuple(urls), **given),
        audit=compliance.find(audit, rule) if audit else None,
        tuned=tuned,
    )


MakeTask = Callable[..., Task]
"""The fixture ``make_task``: ``make_task`` below the test's own folder."""


def judge_run(task: Task, result: RunResult) -> Verdict:
    """Judge a run as the ``measure`` fixture does."""
    context = Context(
        settings=result.settings,
        reference=dict(result.reference),
        build=result.build,
        dataset_total=result.dataset_total,
        run=result.facts,
        audit=task.audit,
    )
    return judge(task.folder, task.cell, task.mode, context)


def read_refusal(runner: Runner, task: Task) -> str:
    """Run a task that is refused before LoadGen starts; return the reason."""
    with pytest.raises(RunFailed) as caught:
        runner.run(task)
    assert "phase check" in str(caught.value)
    assert runner.pid is not None, "the runner is still alive"
    assert not (task.folder / "mlperf_log_detail.txt").exists()
    return str(caught.value)


ENTRY_POINT = """
[pytest_mlperf.benchmarks]
llama3.1-8b = tests.support.service_doubles:OFFICIAL
"""
