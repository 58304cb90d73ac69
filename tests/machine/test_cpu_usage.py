"""What others do to the CPUs of a run is seen."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.machine.cpu_usage import CpuTime
from pytest_mlperf.machine.cpu_usage import describe_usage

BEFORE = CpuTime(total=1000, busy=300, stolen=10, own=200)


def kernel(root: Path, cpus: dict[str, str], processes: dict[int, str]) -> Path:
    """Lay out what the kernel would tell."""
    (root / "proc").mkdir()
    text = "".join(f"{name} {ticks}\n" for name, ticks in cpus.items())
    (root / "proc/stat").write_text(f"{text}ctxt 5\n", encoding="ascii")
    for pid, stat in processes.items():
        (root / f"proc/{pid}").mkdir()
        (root / f"proc/{pid}/stat").write_text(f"{pid} {stat}\n", encoding="ascii")
    return root


def process(parent: int, *ticks: int, name: str = "python3") -> str:
    used = " ".join(map(str, ticks))
    return f"({name}) S {parent} 1 1 0 -1 0 0 0 0 0 {used} 20 0"


def test_the_run_s_cpus_and_the_family_s_time_are_added_up(tmp_path: Path) -> None:
    """Other CPUs and other programs are left out; a name may hold brackets."""
    root = kernel(
        tmp_path,
        {
            "cpu": "9 9 9 9 9 9 9 9 0 0",
            "cpu0": "10 20 30 40 50 60 70 80 0 0",
            "cpu1": "1 2 3 4 5 6 7 8 0 0",
            "cpu12": "5 5 5 5 5 5 5 5 0 0",
        },
        {
            7: process(1, 1, 2, 3, 4, name="a) S 9 (b"),
            8: process(7, 10, 20, 0, 0),
            9: process(8, 100, 0, 0, 0),
            10: process(1, 1000, 0, 0, 0),
        },
    )

    assert CpuTime.read([0, 1], 7, root) == CpuTime(396, 209, 88, 140)


def test_a_kernel_that_tells_nothing_is_no_error(tmp_path: Path) -> None:
    """Without /proc there is nothing to say."""
    assert CpuTime.read([0], root=tmp_path) is None


@pytest.mark.parametrize(
    ("busy", "own", "stolen", "said"),
    [
        (200, 200, 0, {"other load": "0.00 of 2 CPUs"}),
        (100, 110, 0, {"other load": "0.00 of 2 CPUs"}),
        (140, 100, 0, {"other load": "0.08 of 2 CPUs"}),
        (
            600,
            100,
            0,
            {
                "other load": "1.00 of 2 CPUs (advised: below 0.1; end what else runs "
                "on this machine)"
            },
        ),
        (
            200,
            200,
            20,
            {
                "other load": "0.00 of 2 CPUs",
                "stolen": "the hypervisor kept 2.0% of the CPUs' time",
            },
        ),
    ],
)
def test_others_are_what_is_busy_and_not_ours(
    busy: int, own: int, stolen: int, said: dict[str, str]
) -> None:
    """Ticks are counted late, so that ours may exceed the busy ones by a little."""
    after = CpuTime(2000, 300 + busy, 10 + stolen, 200 + own)

    assert describe_usage(BEFORE, after, 2) == said


def test_no_time_between_says_nothing() -> None:
    """A run of less than a tick has no shares."""
    assert describe_usage(BEFORE, BEFORE, 2) == {}


def burn(seconds: float) -> None:
    while time.process_time() < seconds:
        pass


def test_a_real_child_is_family() -> None:
    """Its time stays ours when it has ended; init's family is everybody's."""
    cpus = sorted(os.sched_getaffinity(0))
    child = multiprocessing.get_context("spawn").Process(target=burn, args=(1.0,))
    before, strange = CpuTime.read(cpus), CpuTime.read(cpus, pid=1)
    child.start()
    assert child.pid is not None
    child.join()  # a second of CPU time, however long that takes
    after, strange_after = CpuTime.read(cpus), CpuTime.read(cpus, pid=child.pid)
    assert before
    assert after
    assert strange
    assert strange_after

    assert after.own - before.own >= 50
    assert strange.own >= before.own
    assert strange_after.own == 0


@pytest.mark.parametrize(("share", "is_told"), [(0.09, False), (0.11, True)])
def test_a_valid_line_tells_of_others(
    make_verdict: Callable[..., Verdict], share: float, is_told: bool
) -> None:
    """Above a tenth of the CPUs: the figure may be another one tomorrow."""
    verdict = make_verdict(run=RunFacts(others_share=share))
    line = verdict.explain().splitlines()[0]

    assert line.endswith("beside other load of 11% of its CPUs") == is_told
    assert "VALID under v4.1" in line


@pytest.mark.parametrize("advised", [True, False])
def test_an_invalid_run_tells_of_others(
    make_verdict: Callable[..., Verdict], advised: bool
) -> None:
    """Whoever reads the failure need not look for it among the facts."""
    rule = Check("early_stopping", Status.FAIL, "few", "many", "detail")
    fact = "0.9 of 2 CPUs" + " (advised: below 0.1)" * advised
    verdict = make_verdict(
        checks=(rule,),
        facts={"other load": fact},
        run=RunFacts(is_disturbed=advised),
    )

    assert (f"  other load: {fact}" in verdict.explain()) == advised
