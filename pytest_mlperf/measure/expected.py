"""What a run of the whole length is going to show, by some short ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace
from statistics import median

from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.plan import Shortening
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.measure.folders import make_folder
from pytest_mlperf.measure.rig import Rig
from pytest_mlperf.measure.run import run_task
from pytest_mlperf.measure.under_test import UnderTest
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.tuning.server_load import OFFLINE_MARGIN
from pytest_mlperf.tuning.service_probe import STREAM_SHARE

RUNS, SECONDS = 3, 10.0
"""How many short runs, and their minimum duration."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """A figure by short runs, and what LoadGen is best told for a whole one."""

    metric: Metric
    """The middle one."""
    spread: float
    """Between the best and the worst, as a share of the middle one."""
    option: str
    """What to give, as it is typed: ``--mlperf-target-qps=offline=1150``."""
    others_share: float
    """Most of the CPUs, 0 to 1, that other programs used in a run."""

    def describe(self) -> str:
        """Return it in a line."""
        text = f"expected {self.metric}, {RUNS} runs of {SECONDS:g} s within "
        return text + f"{self.spread:.1%}"


def expect(rig: Rig, task: Task, tell: Callable[[str], None]) -> Expectation:
    """Return what a whole run of an Offline cell or a stream will show.

    Raises as ``Runner.obey`` does, and ``ValueError`` where a run has no figure.
    """
    tuned = UnderTest(rig, task).tune()
    tell(f"probe: {tuned.note}")
    found, others = [], 0.0
    latencies = []
    for _ in range(RUNS):
        short = replace(
            task,
            tuned=tuned,
            folder=make_folder(task.folder.with_name("expected")),
            shortening=Shortening(int(SECONDS * 1000), "a short run to expect by"),
        )
        verdict = run_task(rig, short)
        if verdict.metric is None:
            raise ValueError(f"a short run has no figure: {verdict.cause}")
        tell(f"{short.folder.name}: {verdict.metric}")
        found.append(verdict.metric)
        others = max(others, verdict.run.others_share)
        latencies.append(Log.read(short.folder).number("result_mean_latency_ns") / 1e6)
    values = sorted(one.value for one in found)
    middle = replace(found[0], value=median(values))
    slug = task.rule.scenario.slug
    if task.rule.scenario is Scenario.OFFLINE:
        option = f"--mlperf-target-qps={slug}={middle.value * OFFLINE_MARGIN:.6g}"
    else:
        latency_ms = median(latencies) * STREAM_SHARE
        option = f"--mlperf-expected-latency-ms={slug}={latency_ms:.4g}"
    spread = (values[-1] - values[0]) / middle.value if middle.value else 0.0
    return Expectation(middle, spread, option, others)
