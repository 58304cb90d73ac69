"""What a process that infers keeps between jobs: the workload and its engine builds."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.api import registry
from pytest_mlperf.api.device_dataset import Kept
from pytest_mlperf.api.device_dataset import engine_facts
from pytest_mlperf.api.device_dataset import placed
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import opened
from pytest_mlperf.api.errors import Missing
from pytest_mlperf.api.timeline import Timeline
from pytest_mlperf.api.timeline import timelines
from pytest_mlperf.api.workload import Benchmark
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import Workload
from pytest_mlperf.core.errors import Refused
from pytest_mlperf.core.residency.rules import Probe
from pytest_mlperf.machine import pinned_copy
from pytest_mlperf.runner.messages import Job
from pytest_mlperf.tuning.bare_loop import once
from pytest_mlperf.tuning.engine_probe import Probe as EngineProbe
from pytest_mlperf.tuning.server_load import Tuned


@dataclass(frozen=True, slots=True)
class Built:
    """What is told of a build where the build itself is out of reach."""

    digest: str
    precision: str
    report: str
    facts: Mapping[str, str]


class Workbench:
    """Workload, builds and engines of the device that this process has."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._workloads: dict[tuple[object, ...], Workload] = {}
        self._builds: dict[tuple[object, ...], Build] = {}
        self._copies: list[Probe | None] = []
        self._provider: EngineProvider | None = None
        self._build: Build | None = None

    def workload(self, job: Job) -> Workload:
        """Open the job's workload. Raises ``Missing``, for the engine's needs too."""
        reason = registry.engine(job.engine).unavailable()
        if reason is not None:
            raise Missing(reason)
        return self.opened(job)

    def opened(self, job: Job) -> Workload:
        """Open the job's workload, whatever the engine needs."""
        benchmark = benchmark_of(job)
        key = (job.cell.benchmark, job.workload, job.scratch, benchmark)
        if key not in self._workloads:
            # One dataset at a time: it may be most of the memory.
            self.forget()
            scratch = Path(job.scratch) if job.scratch else None
            self._workloads[key] = benchmark.workload(job.workload, scratch)
        return self._workloads[key]

    def forget(self) -> None:
        """Let go of workload and builds."""
        self._workloads.clear()
        self._builds.clear()

    def build(self, job: Job) -> Built:
        """Build the job's engine. Raises ``Missing``, ``BuildFailed``, ``Refused``."""
        workload, provider = self.opened(job), registry.engine(job.engine)
        precision = precision_of(job)
        if precision not in provider.precisions:
            raise Refused(
                f"the engine {job.cell.engine} has no precision {precision!r}; it has "
                f"{', '.join(provider.precisions)}: choose with --mlperf-precision"
            )
        options = dict(job.engine_options)
        batch = job.tuning.batch
        given = tuple(sorted(options.items()))
        key = (job.engine, precision, given, batch, job.residency)
        if key not in self._builds:
            cache = Path(job.cache)
            request = BuildRequest(
                workload, precision, cache, options, batch, self._beat, job.residency
            )
            build = replace(provider.build(request), request=request)
            there = replace(request, workload=placed(provider, build))
            self._builds[key] = replace(build, request=there)
        self._provider, self._build = provider, self._builds[key]
        build = self._build
        return Built(build.digest, precision, build.report, dict(build.facts))

    @property
    def built(self) -> tuple[EngineProvider, Build]:
        """The engine that was built last."""
        assert self._provider is not None, "workload() comes first"
        assert self._build is not None, "build() comes first"
        return self._provider, self._build

    def measure(self, job: Job) -> Tuned:
        """Time the bare engine: layout and batch, no load yet."""
        provider, build = self.built
        workload = build.request.workload
        dataset = workload.dataset
        probed = range(min(dataset.total, dataset.performance_count))
        dataset.load(probed)
        probe = EngineProbe(provider, build, workload, len(job.cpus), self._beat)
        tuned = probe.measure(job.cell.scenario, job.tuning, job.rule.target_latency_ns)
        dataset.unload(probed)
        return tuned

    @contextmanager
    def engines(self, tuned: Tuned) -> Iterator[Sequence[Engine]]:
        """Open one engine a stream."""
        provider, build = self.built
        with opened(provider, build, tuned.streams, self._beat) as engines:
            yield engines

    def warm_up(self, engines: Sequence[Engine], batch: int) -> None:
        """Run each stream once at size 1 and at full batch, untimed."""
        workload = self.built[1].request.workload
        samples = list(range(min(batch, workload.dataset.total)))
        workload.dataset.load(samples)
        for engine in engines:
            for size in sorted({1, len(samples)}):
                once(engine, workload, samples[:size])
                self._beat()
        workload.dataset.unload(samples)
        for line in timelines(engines):
            line.clear()

    @staticmethod
    def timelines(engines: Sequence[Engine]) -> list[Timeline]:
        """Return what the streams' devices noted since the warm-up."""
        return timelines(engines)

    def placed(self, workload: Workload) -> Workload:  # noqa: ARG002
        """Return the workload as the build has it: its samples may be on the device."""
        return self.built[1].request.workload

    def library(self, workload: Workload) -> Dataset:
        """Return the samples as LoadGen is to load them."""
        return self.placed(workload).dataset

    def resident(self) -> Kept:
        """Return what lay on the device, and how fast its copies are; measured once."""
        if not self._copies:
            try:
                self._copies.append(pinned_copy.measure())
            except Missing:  # an engine of a device that neither package knows
                self._copies.append(None)
        return Kept.of(self.built[1].request.workload, self._copies[0])

    @staticmethod
    def facts(engines: Sequence[Engine], tuned: Tuned) -> dict[str, str]:  # noqa: ARG004
        """Return what a run shows of its device."""
        return engine_facts(engines)


def benchmark_of(job: Job) -> Benchmark:
    """Return the job's benchmark; a rehearsal also has those that nobody installed."""
    if job.workload == "synthetic":
        return registry.rehearsed(job.rule, job.mode)
    return registry.benchmark(job.cell.benchmark)


def precision_of(job: Job) -> str:
    """Return the precision that was asked for, else the engine's for the target."""
    default = benchmark_of(job).precision(job.cell.target)
    provider = registry.engine(job.engine)
    instead: Mapping[str, str] = getattr(provider, "precision_for", {})
    return job.tuning.precision or instead.get(default, default)
