"""The backend of one device: workload, builds and engines are in this process."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

from pytest_mlperf.api.benchmark import Benchmark
from pytest_mlperf.api.benchmark import Rehearsal
from pytest_mlperf.api.device_dataset import ResidentSamples
from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import RecordsGraphs
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import facts_of_streams
from pytest_mlperf.api.engine import open_streams
from pytest_mlperf.api.engine import timelines_of
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.timeline import Timeline
from pytest_mlperf.api.timeline import summarize
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.residency.rules import Probe
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.core.types import Mode
from pytest_mlperf.machine import pinned_copy
from pytest_mlperf.run.bare_engine import BareEngine
from pytest_mlperf.run.bare_engine import BuiltEngine
from pytest_mlperf.run.engine_builds import EngineBuilds
from pytest_mlperf.run.protocol import ShortRun
from pytest_mlperf.run.run_facts import add_resident_samples
from pytest_mlperf.run.run_facts import make_engine_facts
from pytest_mlperf.run.tuning_cache import TuningCache
from pytest_mlperf.runner.batch_times import BatchLoad
from pytest_mlperf.runner.batch_times import BatchTimes
from pytest_mlperf.runner.messages import Built
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.batch_sut import BatchSUT
from pytest_mlperf.sut.batch_sut import policy_for
from pytest_mlperf.sut.completion import BatchStream
from pytest_mlperf.sut.completion import token_timing
from pytest_mlperf.sut.tuned_load import Tuned
from pytest_mlperf.tuning.bare_loop import time_batch
from pytest_mlperf.tuning.engine_probe import EngineProbe


class EngineBackend:
    """Workload, builds and engines of the device that this process has."""

    def __init__(self, beat: Callable[[], None], bound_to: str) -> None:
        self._beat, self._bound_to = beat, bound_to
        self._workloads: dict[tuple[object, ...], TensorWorkload] = {}
        self._builds = EngineBuilds(beat)
        self._tunings = TuningCache()
        self._built: BuiltEngine | None = None
        self._engines: Sequence[Engine] = ()
        self._bare: BareEngine | None = None

    @property
    def built(self) -> BuiltEngine:
        """The engine that was built last."""
        assert self._built is not None, "build() comes first"
        return self._built

    @property
    def samples(self) -> Dataset:
        return self.built.workload.dataset

    @contextmanager
    def reserve(self, task: Task) -> Iterator[None]:  # noqa: ARG002 - one shape
        """Nothing but this process's own device is needed."""
        yield

    def open(self, task: Task) -> TensorWorkload:
        provider: EngineProvider = task.provider.load()
        if (reason := provider.unavailable()) is not None:
            raise RequirementMissing(reason)
        return self.open_workload(task)

    def open_workload(self, task: Task) -> TensorWorkload:
        """Open the task's workload, whatever the engine needs."""
        benchmark = benchmark_of(task)
        key = workload_key(task)
        if key not in self._workloads:
            # One dataset at a time: it may be most of the memory.
            self.forget()
            workload = benchmark.open_workload(task.workload, task.scratch)
            if not isinstance(workload, TensorWorkload):
                raise RunRefused(
                    f"{workload.title} has no tensors, which engines take; choose a "
                    "service that answers prompts with --mlperf-engine endpoint"
                )
            self._workloads[key] = workload
        return self._workloads[key]

    def forget(self) -> None:
        self._close_bare()
        self._workloads.clear()
        self._builds.clear()

    def close(self) -> None:
        self._close_bare()

    def build(self, task: Task) -> Built:
        self._built = self._builds.build(task, self.open_workload(task))
        build = self._built.build
        facts = {"bound to": self._bound_to, **build.facts}
        return Built(
            build.digest, task.precision, build.report, facts, build.uses_gpu,
            build.device, build.weight_transformations,
        )  # fmt: skip

    def choose_precision(self, task: Task) -> Task:
        """Return the task with its default precision, or a faster one."""
        return self._builds.choose_precision(task, self.open_workload(task))

    @property
    def tuning(self) -> type[Tuned]:
        return Tuned

    def tune(
        self,
        task: Task,
        settings: Callable[[Tuned], Settings],  # noqa: ARG002 - one shape
        run: ShortRun[Tuned],
    ) -> Tuned:
        built, total = self.built, self.samples.total
        return self._tunings.tune(
            task, built.provider, built.build, total, lambda: self.measure(task),
            run, self._beat,
        )  # fmt: skip

    def measure(self, task: Task) -> Tuned:
        """Time the bare engine: layout and batch, no load yet."""
        self._close_bare()
        built, dataset = self.built, self.samples
        probed = range(min(dataset.total, dataset.performance_count))
        dataset.load(probed)
        probe = EngineProbe(
            built.provider, built.build, built.workload, len(task.cpus), self._beat,
            task.rule.equal_issue,
        )  # fmt: skip
        rule = task.rule
        tuned = probe.measure(rule.scenario, task.tuning, rule.target_latency_ns)
        dataset.unload(probed)
        return tuned

    @contextmanager
    def sut(
        self,
        task: Task,
        tuned: Tuned,
        settings: Settings,
        fail: Callable[[BaseException], None],
    ) -> Iterator[BatchSUT]:
        self._close_bare()
        with self.open_engines(tuned.streams) as engines:
            yield batch_sut(task, tuned, settings, engines, self.built.workload, fail)

    @contextmanager
    def open_engines(self, streams: Streams) -> Iterator[Sequence[Engine]]:
        """Open one engine a stream."""
        built = self.built
        with open_streams(built.provider, built.build, streams, self._beat) as engines:
            self._engines = engines
            yield engines

    def warm_up(self, task: Task, tuned: Tuned) -> None:
        self.warm_up_streams(tuned.batch, varying=has_varying_batches(task))

    def warm_up_streams(self, batch: int, *, varying: bool) -> None:
        """Run each stream at the sizes that it should have seen, untimed."""
        workload = self.built.workload
        samples = list(range(min(batch, workload.dataset.total)))
        workload.dataset.load(samples)
        for engine in self._engines:
            for size in warm_up_sizes(engine, len(samples), varying=varying):
                time_batch(engine, workload, samples[:size])
                self._beat()
        workload.dataset.unload(samples)
        for line in self.timelines():
            line.clear()

    def timelines(self) -> list[Timeline]:
        """Return what the streams' devices noted since the warm-up."""
        return timelines_of(self._engines)

    def facts(self, task: Task, tuned: Tuned) -> RunFacts:
        built = self.built
        facts = make_engine_facts(
            task, tuned, built.provider, built.build, built.workload
        )
        measured = {**summarize(self.timelines()), **facts_of_streams(self._engines)}
        own = self._builds.describe(built.build)
        texts = {"bound to": self._bound_to, **facts.texts, **measured, **own}
        return replace(facts, texts=texts)

    def resident_samples(self) -> ResidentSamples:
        """Return what lay on the device, and how fast its copies are."""
        return ResidentSamples.of(self.built.workload, self._copy_bandwidth)

    @cached_property
    def _copy_bandwidth(self) -> Probe | None:
        """Of copies to the device; None for one that neither package knows."""
        try:
            return pinned_copy.measure_bandwidth()
        except RequirementMissing:
            return None

    def finish(self, task: Task, result: RunResult) -> RunResult:
        result = replace(result, answers_only=self.built.provider.answers)
        if not task.residency:
            return result
        return add_resident_samples(result, self.resident_samples())

    def explain(self, error: BaseException) -> BaseException:
        return error

    def time_batches(self, task: Task, load: BatchLoad) -> BatchTimes:
        if load.outstanding > 1 or load.rate:
            raise RunRefused(
                f"several batches at a time on {task.cell.id}, but the bare engine "
                "takes one after another: dynamic batching is a server's"
            )
        key = self.built.build.digest, load.size, load.in_units
        if self._bare is None or self._bare.key != key:
            self._close_bare()
            latency = self.built.provider.layouts(len(task.cpus))[-1]
            self._bare = BareEngine(key, self.built, latency, self._beat)
        return self._bare.time_batches(load.count)

    def _close_bare(self) -> None:
        """Close the stream of the bare engine, if one was left open."""
        if self._bare is not None:
            self._bare.close()
        self._bare = None


def benchmark_of(task: Task) -> Benchmark:
    """Return the task's benchmark; of a rehearsal, one made for its rule."""
    loaded: Benchmark | Rehearsal = task.benchmark.load()
    if isinstance(loaded, Rehearsal):
        return loaded.rehearse(task.rule, task.mode)
    return loaded


def workload_key(task: Task) -> tuple[object, ...]:
    """Return what a task's workload depends on; of a rehearsal, on its rule too."""
    rehearsed = isinstance(task.benchmark.load(), Rehearsal)
    size = (task.rule, task.mode) if rehearsed else ()
    return (task.benchmark, task.workload, task.scratch, size)


def has_varying_batches(task: Task) -> bool:
    """Return whether a timed run's batches are of the size that arrivals give them."""
    return task.rule.scenario in BOUNDED and task.mode is not Mode.ACCURACY


def warm_up_sizes(engine: Engine, most: int, *, varying: bool) -> list[int]:
    """Return 1, the full batch and, where batches vary, every recorded size."""
    sizes = {1, most}
    if varying and isinstance(engine, RecordsGraphs):
        sizes.update(min(size, most) for size in engine.graph_sizes(most))
    return sorted(sizes)


def batch_sut(
    task: Task,
    tuned: Tuned,
    settings: Settings,
    engines: Sequence[BatchStream],
    workload: TensorWorkload,
    fail: Callable[[BaseException], None],
) -> BatchSUT:
    """Return the engines' streams behind the scenario's policy."""
    scenario = task.rule.scenario
    policy = policy_for(scenario, tuned.batch, tuned.delay_s, tuned.preferred)
    return BatchSUT(policy, engines, workload, fail, token_timing(settings))
