"""Runs that start from or end on the device: real LoadGen, refusals and proof."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import cast

import pytest

from pytest_mlperf.config.options import Options
from pytest_mlperf.core.checks.device import PROOF
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.judge.judge import judge
from pytest_mlperf.core.residency.rules import Claim
from pytest_mlperf.core.residency.rules import DirectPath
from pytest_mlperf.core.residency.rules import Residency
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.machine.system import System
from pytest_mlperf.machine.system_file import TuningTables
from pytest_mlperf.measure.residency import check_residency_allowed
from pytest_mlperf.measure.residency import make_claim
from pytest_mlperf.measure.residency import write_proof
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from tests.support import doubles
from tests.support.cells import cell_of
from tests.support.residency import GOOD

START, END = Residency(start=True), Residency(end=True)
CELL = cell_of("resnet50", "", Scenario.OFFLINE, "torch", "v6.1")


@dataclass
class Lab:
    """What is asked of a system here."""

    name: str = "lab"
    on_device: DirectPath = GOOD
    tuning: TuningTables = field(default_factory=TuningTables)


def lab(folder: Path, evidence: DirectPath = GOOD, *, drawn: bool = True) -> System:
    """Return a machine whose file lies in a folder, with its drawing beside it."""
    (folder / "systems").mkdir(exist_ok=True)
    if drawn:
        (folder / "systems/topology.png").write_bytes(b"a drawing")
    path = folder / "systems/lab.toml"
    return cast("System", Lab(on_device=evidence, tuning=TuningTables(path=path)))


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    """A child whose output can be read."""
    runner = Runner(stall_s=30, build_s=60, log=tmp_path / "runner.log")
    yield runner
    runner.close()


def make_task(folder: Path, residency: Residency, **changes: Any) -> Task:
    engine = changes.pop("engine", "tests.support.resident_doubles:PLACING")
    changes = {"seconds": 0.5, **changes}
    return doubles.make_task(folder, engine, residency=residency, **changes)


def said(folder: Path, word: str) -> int:
    return (folder / "runner.log").read_text().split("\n").count(word)


@pytest.mark.parametrize("residency", [START, END, Residency(True, True)])
def test_a_placed_run_answers_every_sample_right(
    runner: Runner, tmp_path: Path, residency: Residency
) -> None:
    """Accuracy takes the same path; LoadGen calls for each answer it wants to see."""
    done = runner.run(make_task(tmp_path, residency, mode=Mode.ACCURACY))
    wanted = dict.fromkeys(residency.flags, "true")

    assert done.metrics == {"acc": 100.0}
    assert wanted == {
        k: v for k, v in done.facts.to_texts().items() if k.endswith("_device")
    }
    assert bool(said(tmp_path, "picked")) == residency.start
    assert (said(tmp_path, "fetched") == doubles.SAMPLES / 8) == residency.end
    assert done.facts.to_texts()["graphs"] == "none"


def test_a_performance_run_fetches_no_result(runner: Runner, tmp_path: Path) -> None:
    """LoadGen does not look at answers there, so none leaves the device."""
    done = runner.run(make_task(tmp_path, END))

    assert said(tmp_path, "fetched") == 0
    assert done.facts.to_texts()["end_on_device"] == "true"
    assert "start_from_device" not in done.facts.to_texts()


def test_an_unasked_run_says_nothing_of_it(runner: Runner, tmp_path: Path) -> None:
    """The same engine as every other: batches come from the host."""
    done = runner.run(make_task(tmp_path, Residency()))

    assert said(tmp_path, "picked") + said(tmp_path, "fetched") == 0
    assert not [k for k in done.facts.to_texts() if "device" in k and k != "device"]
    assert done.copies is None


def test_a_result_that_cannot_be_fetched_ends_the_run(
    runner: Runner, tmp_path: Path
) -> None:
    """It never becomes a fast answer."""
    wish = make_task(
        tmp_path,
        END,
        mode=Mode.ACCURACY,
        engine="tests.support.resident_doubles:BROKEN",
    )
    with pytest.raises(RunFailed, match="the copy out failed"):
        runner.run(wish)


def test_an_engine_without_it_fails_with_the_remedy(
    runner: Runner, tmp_path: Path
) -> None:
    """Before LoadGen starts; the flag is not silently without effect."""
    with pytest.raises(RunFailed, match=r"cannot do start_from_device .it can: n"):
        runner.run(make_task(tmp_path, START, engine="ECHO"))


def options(**changes: Any) -> Options:
    return replace(Options(), **{"start_from_device": True, **changes})


def test_a_documented_system_may_try(tmp_path: Path) -> None:
    """Both flags are off by default, and then nothing is asked of the system."""
    nothing = check_residency_allowed(Options(), lab(tmp_path, DirectPath()), CELL)

    assert check_residency_allowed(options(), lab(tmp_path), CELL) == START
    assert Residency() == nothing
    assert not nothing


@pytest.mark.parametrize(
    ("change", "asked", "reason"),
    [
        ({"start_from_device": False}, {}, "start_from_device is not enabled for lab"),
        (
            {"end_on_device": False},
            {"end_on_device": True},
            "end_on_device is not enabled for lab",
        ),
        ({}, {"end_on_device": True}, "end_on_device is not allowed for resnet50; it"),
        ({"diagram": ""}, {}, "lacks diagram (the drawing"),
        ({"diagram": "gone.png"}, {}, "diagram = 'gone.png' is no file; give its path"),
        ({"software": ""}, {}, "lacks software (what uses"),
        ({"ingress_gb_s": None}, {}, "lacks ingress_gb_s, the measured bandwidth"),
        (
            {"egress_gb_s": None},
            {"end_on_device": True},
            "lacks egress_gb_s, the measured bandwidth",
        ),
        (
            {"both_gb_s": None},
            {"end_on_device": True},
            "lacks both_gb_s, the measured bandwidth",
        ),
    ],
)
def test_what_no_throughput_can_mend_is_refused_before_the_run(
    tmp_path: Path, change: dict[str, Any], asked: dict[str, Any], reason: str
) -> None:
    """Each with its reason, beside all the others."""
    system = lab(tmp_path, replace(GOOD, **change))
    with pytest.raises(RunRefused) as refused:
        check_residency_allowed(options(**asked), system, CELL)

    assert f"\n  - {reason}" in str(refused.value).replace("[on_device] ", "")
    assert f"of {CELL.id} is refused:" in str(refused.value)


@pytest.mark.parametrize("task", ["retinanet", "llama3.1-8b"])
def test_benchmarks_without_a_formula_are_refused(tmp_path: Path, task: str) -> None:
    """The tuning guide lists those that may start from the device."""
    cell = replace(CELL, rule=replace(CELL.rule, benchmark=task))
    with pytest.raises(
        RunRefused, match=f"start_from_device is not allowed for {task};"
    ):
        check_residency_allowed(options(), lab(tmp_path), cell)


def as_resnet50(task: Task) -> Task:
    """Return a double's task as the benchmark that may start from the device."""
    rule = replace(task.rule, benchmark="resnet50")
    return replace(task, cell=replace(task.cell, rule=rule))


def judged(wish: Task, done: RunResult, claim: Claim | None) -> Verdict:
    context = Context(settings=done.settings, claim=claim)
    cell = as_resnet50(wish).cell
    return judge(wish.folder, cell, wish.mode, context)


def test_the_throughput_decides_and_the_proof_says_how(
    runner: Runner, tmp_path: Path
) -> None:
    """A path that carries it passes; a narrow one makes the run INVALID."""
    wish = make_task(tmp_path, START)
    done = runner.run(wish)
    wide, narrow = (
        lab(tmp_path, replace(GOOD, ingress_gb_s=speed)) for speed in (1e6, 1e-7)
    )
    named = as_resnet50(wish)
    checks, proofs = [], []
    for system in (wide, narrow):
        claim = make_claim(system, wish, done)
        verdict = judged(wish, done, claim)
        checks.append(next(c for c in verdict.checks if c.name == "on_device"))
        write_proof(system, named, Context(settings=done.settings, claim=claim))
        proofs.append((wish.folder / PROOF).read_text())
    plain = {c.name for c in judged(wish, done, None).checks}
    good, bad = checks

    assert Status.PASS is good.status
    assert Status.FAIL is bad.status
    assert "ingress_gb_s = 1e-07, but" in bad.found
    assert bad.remedy == "see on_device.txt in the run's folder"
    assert "start_from_device of resnet50 on lab: granted" in proofs[0]
    assert "resnet50 on lab: refused" in proofs[1]
    assert (wish.folder / "on_device_diagram.png").read_bytes() == b"a drawing"
    assert "on_device" not in plain
