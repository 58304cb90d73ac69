"""From options and cell to a job, and what the verdict says of the machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from typing import cast

import pytest

from pytest_mlperf.config.options import Options
from pytest_mlperf.core import rounds
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.plan import plan_settings
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine.system import System
from pytest_mlperf.measure.folders import make_folder
from pytest_mlperf.measure.judged_run import complete_facts
from pytest_mlperf.measure.judged_run import make_context
from pytest_mlperf.measure.plan import plan_tuning
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import ServerSpec
from pytest_mlperf.runner.messages import ServiceSpec
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunFailed
from tests.support import doubles

ROUND = rounds.get("v6.1")
RULE = ROUND.find("resnet50", "", Scenario.OFFLINE)


def make_result(kind: str = "embedded", **changes: Any) -> RunResult:
    assert RULE is not None
    settings = plan_settings(RULE, ROUND.seeds, Mode.PERFORMANCE, available=100)
    facts = RunFacts(device="CPU", uses_gpu=False)
    values = {"reference": {"acc": 97.0}, "dataset_total": 100, "facts": facts}
    return RunResult(settings, "digest", workload_kind=kind, **{**values, **changes})


def make_session(**options: Any) -> MeasureSession:
    system = cast("System", SimpleNamespace(name="box"))
    return MeasureSession(Options(**options), system, Path("reports"))


TASK = doubles.make_task(Path("anywhere"), rule=RULE)
ON_GPU = replace(TASK, device_name="NVIDIA H100", visible=("GPU-1",))
ON_SHARE = replace(TASK, device_name="1 of 2 CPUs")


@pytest.mark.parametrize(("task", "used"), [(ON_GPU, "CPU"), (ON_SHARE, "1 of 2 CPUs")])
def test_a_verdict_names_the_device_that_worked(task: Task, used: str) -> None:
    """The CPU provider on a machine with a GPU is no GPU result."""
    facts = complete_facts(make_session(), task, make_result())

    assert facts.device == used
    assert facts.to_texts()["device"] == used
    assert facts.texts["system"] == "box"


@pytest.mark.parametrize(
    ("visible", "uses_gpu", "count"),
    [(("GPU-1",), True, 1), (("GPU-1", "GPU-2"), True, 2),
     (("GPU-1", "GPU-2"), False, 0), ((), False, 0)],
)  # fmt: skip
def test_a_verdict_counts_the_accelerators_that_worked(
    visible: tuple[str, ...], uses_gpu: bool, count: int
) -> None:
    """None where the engine left the GPUs alone."""
    task = replace(TASK, device_name="some", visible=visible)
    result = make_result(facts=RunFacts(device="some", uses_gpu=uses_gpu))
    facts = complete_facts(make_session(), task, result)

    assert facts.accelerators == count
    assert facts.to_texts().get("accelerators", "") == str(count or "")


@pytest.mark.parametrize(
    ("service", "count"),
    [(ServiceSpec(urls=("http://far:1",)), 0), (ServiceSpec(server=ServerSpec(())), 1)],
)
def test_a_server_somewhere_else_uses_no_accelerator_of_this_machine(
    service: ServiceSpec, count: int
) -> None:
    """One that is started here does."""
    task = replace(ON_GPU, service=service)
    facts = complete_facts(make_session(), task, make_result(facts=RunFacts()))

    assert facts.accelerators == count


def test_labels_follow_what_ran_not_what_was_asked() -> None:
    """An embedded workload and an engine that infers nothing say so, always."""
    session = make_session(workload="official", scratch=Path("/data"))
    embedded = make_context(session, TASK, make_result(answers_only=True))
    official = make_context(session, TASK, make_result("official"))

    assert embedded.labels == ("embedded", "null answers")
    assert embedded.reference == {"acc": 97.0}
    assert official.labels == ()
    assert official.reference is None


def test_the_command_line_wins_over_the_system_file() -> None:
    """Key by key; what neither gives is left to the probe."""
    given = {"batch": 4, "streams": 2, "preferred": [8, 1, 4]}
    session = make_session(batch=16)
    session.system.tuning = SimpleNamespace(lookup=lambda *_: given)  # type: ignore[misc, assignment]
    tuning = plan_tuning(session, TASK.cell)

    assert (tuning.batch, tuning.streams, tuning.preferred) == (16, 2, (1, 4, 8))
    assert tuning.threads is None


def test_every_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """A repeated item does not write over the logs of the first."""
    made = [make_folder(tmp_path / "cell" / "performance") for _ in range(3)]

    names = ["performance", "performance-2", "performance-3"]
    assert names == [folder.name for folder in made]
    assert all(folder.is_dir() for folder in made)


@pytest.mark.parametrize("below", ["performance", "cell/performance"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, below: str) -> None:
    """With the option that mends it."""
    (tmp_path / below.partition("/")[0]).write_text("a file", encoding="utf-8")
    with pytest.raises(RunFailed, match="--mlperf-reports DIR"):
        make_folder(tmp_path / below)
