"""One job in a runner: open, build, probe, warm up, run, score."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from pytest_mlperf import registry
from pytest_mlperf.binding import bind
from pytest_mlperf.core import compliance
from pytest_mlperf.core.log import Log
from pytest_mlperf.core.published import BARE_LOOP
from pytest_mlperf.core.settings import Refused
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.settings import plan
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.engine import Build
from pytest_mlperf.engine import BuildRequest
from pytest_mlperf.engine import EngineProvider
from pytest_mlperf.engine import Simulated
from pytest_mlperf.engine import opened
from pytest_mlperf.job import Counted
from pytest_mlperf.job import Done
from pytest_mlperf.job import Job
from pytest_mlperf.job import Message
from pytest_mlperf.job import Unmet
from pytest_mlperf.preflight import check_build
from pytest_mlperf.preflight import check_memory
from pytest_mlperf.preflight import planned_samples
from pytest_mlperf.scoring import write_accuracy
from pytest_mlperf.scoring import write_compliance
from pytest_mlperf.service_session import ServiceSession
from pytest_mlperf.sut import BatchSUT
from pytest_mlperf.sut import policy_for
from pytest_mlperf.sut import quiet_interpreter
from pytest_mlperf.timeline import summary
from pytest_mlperf.timeline import timelines
from pytest_mlperf.tuning import kept
from pytest_mlperf.tuning import simulated
from pytest_mlperf.tuning.bare import once
from pytest_mlperf.tuning.probe import Probe
from pytest_mlperf.tuning.probe import Trial
from pytest_mlperf.tuning.probe import Tuned
from pytest_mlperf.workload import Benchmark
from pytest_mlperf.workload import Missing
from pytest_mlperf.workload import Workload
from pytest_mlperf.workload import input_types


class Channel(Protocol):
    """What a session tells its parent."""

    def watch(
        self,
        sut: Counted | None,
        total: int | None = None,
        expected_s: float | None = None,
    ) -> None: ...

    def enter(self, phase: str) -> None: ...

    def beat(self) -> None: ...

    def fail(self, error: BaseException) -> None: ...


class Session:
    """Keeps workload, build and tuning between the jobs of one device."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._workloads: dict[tuple[object, ...], Workload] = {}
        self._builds: dict[tuple[object, ...], Build] = {}
        self._tuned: dict[tuple[object, ...], Tuned] = {}
        self._bound = ""
        self._services = ServiceSession(channel)

    def close(self) -> None:
        """End what was started."""
        self._services.close()

    def run(self, job: Job) -> Message:
        """Run one job; ``Unmet`` when this machine lacks something."""
        self._bound = str(bind(job.cpus))
        if job.service:
            self._forget()
            return self._services.run(job)
        # A server that an earlier cell used would be in this one's way.
        self._services.close()
        try:
            provider = registry.engine(job.engine)
            reason = provider.unavailable()
            if reason is not None:
                return Unmet(reason)
            self.channel.enter("open")
            workload = self._workload(job)
            if job.mode is Mode.ACCURACY and workload.kind == "generated":
                return Unmet(
                    f"{workload.title}: it has no accuracy; run it without accuracy "
                    "items (-k 'not accuracy'), or use --mlperf-workload embedded"
                )
            self.channel.enter("build")
            build = self._build(job, provider, workload)
            check_build(job, build.digest)
            self.channel.enter("probe")
            tuned = self._tune(job, provider, build, workload)
        except Missing as missing:
            return Unmet(str(missing))
        settings = self._settings(job, workload, tuned)
        check_memory(settings)
        folder = Path(job.folder)
        self.channel.enter("warm-up")
        with self._sut(job.cell.scenario, settings, tuned, provider, build) as sut:
            self._warm_up(sut, workload, tuned.batch)
            lines = timelines(sut.engines)
            for line in lines:
                line.clear()
            self.channel.enter("run")
            self._loadgen(settings, folder, sut, build)
            measured = summary(lines)
        kept.write(folder, tuned)
        metrics: dict[str, float] = {}
        if job.mode is Mode.ACCURACY:
            self.channel.enter("score")
            metrics = write_accuracy(folder, workload)
        if job.mode is Mode.COMPLIANCE:
            self.channel.enter("score")
            write_compliance(job.audit, folder, job.references, workload)
        return Done(
            settings=settings,
            build=build.digest,
            reference=dict(workload.reference),
            dataset_total=workload.dataset.total,
            workload_kind=workload.kind,
            hopeless=tuned.hopeless,
            answers_only=provider.answers,
            facts={**self._facts(job, build, workload, tuned), **measured},
            metrics=metrics,
        )

    def _workload(self, job: Job) -> Workload:
        benchmark = benchmark_of(job)
        key = (job.cell.benchmark, job.workload, job.scratch, benchmark)
        if key not in self._workloads:
            # One dataset at a time: it may be most of the memory.
            self._forget()
            scratch = Path(job.scratch) if job.scratch else None
            self._workloads[key] = benchmark.workload(job.workload, scratch)
        return self._workloads[key]

    def _forget(self) -> None:
        self._workloads.clear()
        self._builds.clear()
        self._tuned.clear()

    def _build(self, job: Job, provider: EngineProvider, workload: Workload) -> Build:
        precision = self._precision(job)
        if precision not in provider.precisions:
            raise Refused(
                f"the engine {job.cell.engine} has no precision {precision!r}; it has "
                f"{', '.join(provider.precisions)}: choose with --mlperf-precision"
            )
        options = dict(job.engine_options)
        batch = job.tuning.batch
        key = (job.engine, precision, tuple(sorted(options.items())), batch)
        if key not in self._builds:
            cache, beat = Path(job.cache), self.channel.beat
            request = BuildRequest(workload, precision, cache, options, batch, beat)
            self._builds[key] = provider.build(request)
        return self._builds[key]

    def _precision(self, job: Job) -> str:
        default = benchmark_of(job).precision(job.cell.target)
        provider = registry.engine(job.engine)
        instead: Mapping[str, str] = getattr(provider, "precision_for", {})
        return job.tuning.precision or instead.get(default, default)

    def _tune(
        self, job: Job, provider: EngineProvider, build: Build, workload: Workload
    ) -> Tuned:
        if job.tuned:
            return kept.tuned_as(job.tuned)
        scenario = job.cell.scenario
        bound = job.rule.target_latency_ns
        cell = (job.engine, build.digest, scenario, job.tuning, job.cpus, bound)
        # Accuracy runs as its performance run did, where there was one.
        measured = (*cell, Mode.PERFORMANCE)
        key = measured if measured in self._tuned else (*cell, job.mode)
        if isinstance(provider, Simulated):
            total = workload.dataset.total
            return simulated.tuned(provider, scenario, job.tuning, total)
        if key not in self._tuned:
            dataset = workload.dataset
            probed = range(min(dataset.total, dataset.performance_count))
            dataset.load(probed)
            probe = Probe(provider, build, workload, len(job.cpus), self.channel.beat)
            trial = None
            if job.mode is Mode.PERFORMANCE:
                trial = self._trial(job, provider, build)
            self._tuned[key] = probe.tune(scenario, job.tuning, bound, trial)
            dataset.unload(probed)
        return self._tuned[key]

    def _trial(self, job: Job, provider: EngineProvider, build: Build) -> Trial:
        """Return a short real Server run, for the probe."""
        key = f"result_{(job.rule.percentile or 0.99) * 100:.2f}_percentile_latency_ns"

        def trial(tuned: Tuned, seconds: float) -> float:
            settings = replace(
                self._settings(job, build.request.workload, tuned),
                min_duration_ms=int(seconds * 1000),
                min_query_count=1,
            )
            with tempfile.TemporaryDirectory(prefix="pytest-mlperf-") as name:
                folder = Path(name)
                with self._sut(
                    job.cell.scenario, settings, tuned, provider, build
                ) as sut:
                    self._loadgen(settings, folder, sut, build)
                return Log.read(folder).number(key)

        return trial

    def _settings(self, job: Job, workload: Workload, tuned: Tuned) -> Settings:
        dataset = workload.dataset
        return plan(
            job.rule,
            job.seeds,
            job.mode,
            available=min(dataset.total, dataset.performance_count),
            shortening=job.shortening,
            target_qps=tuned.target_qps,
            expected_latency_ns=tuned.expected_latency_ns,
            audit=compliance.find(job.audit, job.rule) if job.audit else None,
        )

    @contextmanager
    def _sut(
        self,
        scenario: Scenario,
        settings: Settings,
        tuned: Tuned,
        provider: EngineProvider,
        build: Build,
    ) -> Iterator[BatchSUT]:
        """Open one engine a stream behind a policy; the heartbeat watches it."""
        workload = build.request.workload
        policy = policy_for(scenario, tuned.batch, tuned.delay_s, tuned.preferred)
        with opened(provider, build, tuned.streams, self.channel.beat) as engines:
            sut = BatchSUT(policy, engines, workload, self.channel.fail)
            total = planned_samples(settings, workload.dataset.total)
            self.channel.watch(sut, total, settings.expected_s)
            try:
                yield sut
            finally:
                self.channel.watch(None)

    def _loadgen(
        self, settings: Settings, folder: Path, sut: BatchSUT, build: Build
    ) -> None:
        # Imported here: LoadGen is not needed to find out that something is missing.
        from pytest_mlperf import loadgen

        dataset = build.request.workload.dataset
        with quiet_interpreter():
            loadgen.run(settings, folder, sut, dataset, self.channel.fail)

    def _warm_up(self, sut: BatchSUT, workload: Workload, batch: int) -> None:
        """Run each stream once at size 1 and at full batch, untimed."""
        samples = list(range(min(batch, workload.dataset.total)))
        workload.dataset.load(samples)
        for engine in sut.engines:
            for size in sorted({1, len(samples)}):
                once(engine, workload, samples[:size])
                self.channel.beat()
        workload.dataset.unload(samples)

    def _facts(
        self, job: Job, build: Build, workload: Workload, tuned: Tuned
    ) -> dict[str, str]:
        facts = dict(build.facts)
        facts |= {
            "workload": workload.title,
            "precision": build.request.precision,
            "input types": input_types(workload.dataset),
            "weights file": workload.model.path.name,
            "streams x threads": str(tuned.streams),
            "batch": str(tuned.batch),
            "tuning": tuned.note,
            "engine build": build.report,
            "cpus": str(len(job.cpus)),
            "bound to": self._bound,
        }
        if tuned.target_qps is not None:
            facts["target_qps"] = f"{tuned.target_qps:.4g}"
        if tuned.loop_rate is not None:
            facts[BARE_LOOP] = f"{tuned.loop_rate:.6g}"
        return facts


def benchmark_of(job: Job) -> Benchmark:
    """Return the job's benchmark; a rehearsal also has those that nobody installed."""
    if job.workload == "synthetic":
        return registry.rehearsed(job.rule, job.mode)
    return registry.benchmark(job.cell.benchmark)
