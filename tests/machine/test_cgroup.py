"""What a container's CPU quota did to a run: made-up cgroups, both versions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.machine.advice_costs import WATCH_S
from pytest_mlperf.machine.advice_costs import measure_quota
from pytest_mlperf.machine.cgroup import Throttling
from pytest_mlperf.machine.cgroup import describe_throttling
from pytest_mlperf.machine.host_checks import read_cpu_quota
from pytest_mlperf.measure.observers.cpu_times import CpuTimes
from pytest_mlperf.runner.messages import Heartbeat
from tests.support import doubles

V2 = "sys/fs/cgroup/cpu.stat"
V1 = "sys/fs/cgroup/cpu,cpuacct/cpu.stat"
TEXTS = {
    V2: "usage_usec 9\nnr_periods 90\nnr_throttled {}\nthrottled_usec {}\n",
    V1: "nr_periods 90\nnr_throttled {}\nthrottled_time {}000\n",
}


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("name", [V1, V2])
def test_both_versions_count_alike(tmp_path: Path, name: str) -> None:
    """One counts nanoseconds, one microseconds."""
    write(tmp_path, name, TEXTS[name].format(37, 1_230_000))

    assert Throttling.read(tmp_path) == Throttling(37, 1.23)


def test_no_cgroup_says_nothing(tmp_path: Path) -> None:
    """Nor does one that never held anybody back."""
    quiet = Throttling(5, 1.0)

    assert Throttling.read(tmp_path) is None
    assert read_cpu_quota(tmp_path) is None
    assert describe_throttling(None, quiet, 0.5) == ""
    assert describe_throttling(quiet, quiet, 0.5) == ""


def test_a_quotas_cost_is_the_time_that_it_stops_a_busy_thread(tmp_path: Path) -> None:
    """By the kernel's count: what other programs took of the CPU is not the quota's."""
    write(tmp_path, V2, TEXTS[V2].format(1, 1_000_000))
    more = (tmp_path, V2, TEXTS[V2].format(4, 1_000_000 + round(WATCH_S * 4e5)))
    later = threading.Timer(WATCH_S / 10, write, more)
    later.start()
    cost = measure_quota(tmp_path)
    later.join()

    assert cost is not None
    assert 0.2 < cost.share <= 0.4
    assert cost.text == f"it stopped one busy thread for {cost.share:.0%} of the time"


def test_a_runs_throttling_is_in_facts_and_verdict(
    tmp_path: Path, make_verdict: Callable[..., Verdict]
) -> None:
    """What was before the run is not the run's; the remedy is the container's."""
    write(tmp_path, "sys/fs/cgroup/cpu.max", "50000 100000\n")
    write(tmp_path, V2, TEXTS[V2].format(100, 5_000_000))
    with CpuTimes(tmp_path).around(doubles.make_task(tmp_path)) as observed:
        observed.see(Heartbeat("run", is_measuring=True))
        write(tmp_path, V2, TEXTS[V2].format(137, 6_230_000))
    facts = observed.complete_facts(RunFacts())
    setting = read_cpu_quota(tmp_path)

    text = (
        "the cgroup's CPU quota of 0.5 CPUs held the run back (37 times, 1.23 s in "
        "all): give the container whole CPUs (--cpuset-cpus) and no quota"
    )
    assert observed.facts["quota throttling"] == text
    assert f"  cpu quota: {text}" in make_verdict(run=facts).explain().splitlines()
    assert str(setting) == "0.5 CPUs (advised: none)"
