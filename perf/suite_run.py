"""One run through the whole suite path: a fresh runner, its child, session and SUT."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pytest_mlperf.api import registry
from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.plan import Shortening
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import Runner

ROOT = Path(__file__).resolve().parents[1]
T = TypeVar("T")
SPEED = ("result_min_duration_met", "result_perf_constraints_met", "early_stopping_met")
"""What a run may miss by being slow or fast; anything else is a wrong result."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run."""

    task: Task
    log: Log
    done: RunResult

    @property
    def valid(self) -> bool:
        """LoadGen's own word."""
        return bool(self.log.text("result_validity") == "VALID")


@dataclass(frozen=True, slots=True)
class Bench:
    """What every run of a session shares."""

    folder: Path
    cache: Path
    cpus: tuple[int, ...]
    runs: int
    scale: float
    """Factor on every LoadGen run's duration; 1 for figures, less to try things."""

    def make_folder(self, name: str) -> Path:
        """Make the next empty folder of that name."""
        folder = self.folder / f"{len(list(self.folder.iterdir())):04d}-{name}"
        folder.mkdir()
        return folder

    def alternate(
        self, sides: Mapping[str, Callable[[], T]], times: int = 0
    ) -> dict[str, list[T]]:
        """Measure all sides in turn, ``times`` over or as often as the user says.

        In turn, so that a slow spell of a shared machine meets every side.
        """
        results: dict[str, list[T]] = {name: [] for name in sides}
        for _ in range(times or self.runs):
            for name, measure in sides.items():
                results[name].append(measure())
        return results

    def make_task(
        self,
        benchmark: str,
        target: str,
        scenario: Scenario,
        engine: str,
        *,
        seconds: float,
        tuning: Tuning | None = None,
        bound_ns: int | None = None,
    ) -> Task:
        """Return a performance run on the embedded workload, shortened."""
        newest = rounds.find_newest(benchmark, target, scenario)
        assert newest is not None
        rule = newest.find(benchmark, target, scenario)
        assert rule is not None
        if bound_ns is not None:
            rule = replace(rule, target_latency_ns=bound_ns)
        cell, tuning = Cell(rule, engine), tuning or Tuning()
        default = registry.benchmark(benchmark).precision(target)
        return Task(
            cell=cell,
            mode=Mode.PERFORMANCE,
            seeds=newest.seeds,
            provider=registry.reference("engine", engine),
            benchmark=registry.reference("benchmark", benchmark),
            precision=tuning.precision or default,
            folder=self.make_folder(cell.id),
            workload="embedded",
            cache=self.cache,
            cpus=self.cpus,
            tuning=tuning,
            shortening=Shortening(int(seconds * self.scale * 1000), "benchmark"),
        )


def run_suite(task: Task, runner: Runner | None = None) -> Result:
    """Run a task, in a fresh runner unless one is given, and read its log.

    Asserts that the run is right whatever its speed.
    """
    used = runner or Runner(build_s=600.0)
    try:
        done = used.run(task)
    finally:
        if runner is None:
            used.close()
    log = Log.read(task.folder)
    assert_sound(log)
    return Result(task, log, done)


def assert_sound(log: Log) -> None:
    """Fail for a run that is INVALID for another reason than its speed."""
    errors = [event.text for event in log.errors]
    assert not errors, f"LoadGen logged {errors[:3]}; look into {log.folder}"
    assert log.flag("result_min_queries_met")
    if log.text("result_validity") != "VALID":
        assert not all(log.get(key, True) for key in SPEED)
