"""The builds of one process, and in which precision a task runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pytest_mlperf.api.device_dataset import place_workload
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import ComparesPrecisions
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.verdict import PRECISION_CHOSEN
from pytest_mlperf.machine.instruction_sets import describe_instruction_sets
from pytest_mlperf.machine.instruction_sets import has_int8
from pytest_mlperf.machine.instruction_sets import read_instruction_sets
from pytest_mlperf.run.bare_engine import BuiltEngine
from pytest_mlperf.run.precision import choose_precision
from pytest_mlperf.runner.messages import Task


class EngineBuilds:
    """Builds each engine once."""

    def __init__(
        self, beat: Callable[[], None], sets: tuple[str, ...] | None = None
    ) -> None:
        self._beat = beat
        self._sets = read_instruction_sets() if sets is None else sets
        self._builds: dict[tuple[object, ...], BuiltEngine] = {}
        self._why_precision = ""

    def build(self, task: Task, workload: TensorWorkload) -> BuiltEngine:
        """Return the task's engine, built or as it was built before.

        Raises ``RunRefused`` for a precision that the engine does not have.
        """
        provider: EngineProvider = task.provider.load()
        if task.precision not in provider.precisions:
            raise RunRefused(
                f"the engine {task.cell.engine} has no precision {task.precision!r}; "
                f"it has {', '.join(provider.precisions)}: choose with "
                "--mlperf-precision"
            )
        options = dict(task.engine_options)
        given = tuple(sorted(options.items()))
        batch = task.tuning.batch
        key = (task.provider, task.precision, given, batch, task.residency)
        if key not in self._builds:
            request = BuildRequest(
                workload, task.precision, task.cache, options, batch, self._beat,
                task.residency,
            )  # fmt: skip
            build = replace(provider.build(request), request=request)
            placed = replace(request, workload=place_workload(provider, build))
            self._builds[key] = BuiltEngine(provider, replace(build, request=placed))
        return self._builds[key]

    def choose_precision(self, task: Task, workload: TensorWorkload) -> Task:
        """Return the task with its default precision, or with a more exact one that is
        faster on this CPU; as it is, where the user or the system file chose.
        """
        provider: EngineProvider = task.provider.load()
        self._why_precision = ""
        if task.tuning.precision or not isinstance(provider, ComparesPrecisions):
            return task
        others = provider.more_exact.get(task.precision, ())
        if has_int8(self._sets) or not others:
            return task
        tried = [replace(task, precision=name) for name in (task.precision, *others)]
        builds = {one.precision: self.build(one, workload).build for one in tried}
        if any(build.uses_gpu for build in builds.values()):
            return task
        choice = choose_precision(
            provider, builds, workload, len(task.cpus), self._beat
        )
        self._why_precision = choice.why
        return replace(task, precision=choice.precision)

    def describe(self, build: Build) -> dict[str, str]:
        """Return what a verdict says of the CPU and of the precision, as texts."""
        if build.uses_gpu:
            return {}
        found = {"instruction sets": describe_instruction_sets(self._sets)}
        if self._why_precision:
            found[PRECISION_CHOSEN] = self._why_precision
        return found

    def clear(self) -> None:
        """Forget the builds of another workload."""
        self._builds.clear()
