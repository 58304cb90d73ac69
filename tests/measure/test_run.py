"""From options and cell to a job, and what the verdict says of the machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from typing import cast

import pytest

from pytest_mlperf.config.options import Options
from pytest_mlperf.core import rounds
from pytest_mlperf.core.plan import plan
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.measure.placement import Slice
from pytest_mlperf.measure.run import accelerators
from pytest_mlperf.measure.run import context_for
from pytest_mlperf.measure.run import new_folder
from pytest_mlperf.measure.run import tuning_for
from pytest_mlperf.plugin.session import State
from pytest_mlperf.runner.messages import Done
from pytest_mlperf.runner.runner import RunFailed

ROUND = rounds.get("v6.1")
RULE = ROUND.find("resnet50", "", Scenario.OFFLINE)
GPU = Slice((0,), "NVIDIA H100", {"CUDA_VISIBLE_DEVICES": "GPU-1"})
SHARE = Slice((0,), "1 of 2 CPUs")


def done(kind: str = "embedded", **changes: Any) -> Done:
    assert RULE is not None
    settings = plan(RULE, ROUND.seeds, Mode.PERFORMANCE, available=100)
    facts = {"provider": "CPUExecutionProvider", "device": "CPU"}
    values = {"reference": {"acc": 97.0}, "dataset_total": 100, "facts": facts}
    return Done(settings, "digest", workload_kind=kind, **{**values, **changes})


def state(**options: Any) -> State:
    made = SimpleNamespace(options=Options(**options))
    made.system = SimpleNamespace(name="box")
    return cast("State", made)


@pytest.mark.parametrize(("device", "used"), [(GPU, "CPU"), (SHARE, "1 of 2 CPUs")])
def test_a_verdict_names_the_device_that_worked(device: Slice, used: str) -> None:
    """The CPU provider on a machine with a GPU is no GPU result."""
    context = context_for(state(), device, done())

    assert used == context.facts["device"]
    assert context.facts["system"] == "box"


@pytest.mark.parametrize(
    ("visible", "said", "used"),
    [
        ("GPU-1", "NVIDIA H100", {"accelerators": "1"}),
        ("GPU-1,GPU-2", "2 x NVIDIA H100", {"accelerators": "2"}),
        ("GPU-1,GPU-2", "2 x CPU", {}),
        ("", "CPU", {}),
    ],
)
def test_a_verdict_counts_the_accelerators_that_worked(
    visible: str, said: str, used: dict[str, str]
) -> None:
    """None where the engine left the GPUs alone."""
    device = Slice((0,), "some", {"CUDA_VISIBLE_DEVICES": visible})

    assert used == accelerators(device, done(facts={"device": said}))


def test_labels_follow_what_ran_not_what_was_asked() -> None:
    """An embedded workload and an engine that infers nothing say so, always."""
    asked_official = state(workload="official", scratch=Path("/data"))
    embedded = context_for(asked_official, SHARE, done(answers_only=True))
    official = context_for(asked_official, SHARE, done("official"))

    assert embedded.labels == ("embedded", "null answers")
    assert embedded.reference == {"acc": 97.0}
    assert official.labels == ()
    assert official.reference is None


def test_the_command_line_wins_over_the_system_file() -> None:
    """Key by key; what neither gives is left to the probe."""
    given = {"batch": 4, "streams": 2, "preferred": [8, 1, 4]}
    tuning = tuning_for(Options(batch=16), given)

    assert (tuning.batch, tuning.streams, tuning.preferred) == (16, 2, (1, 4, 8))
    assert tuning.threads is None


def test_every_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """A repeated item does not write over the logs of the first."""
    made = [new_folder(tmp_path / "cell" / "performance") for _ in range(3)]

    names = ["performance", "performance-2", "performance-3"]
    assert names == [folder.name for folder in made]
    assert all(folder.is_dir() for folder in made)


@pytest.mark.parametrize("below", ["performance", "cell/performance"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, below: str) -> None:
    """With the option that mends it."""
    (tmp_path / below.partition("/")[0]).write_text("a file", encoding="utf-8")
    with pytest.raises(RunFailed, match="--mlperf-reports DIR"):
        new_folder(tmp_path / below)
