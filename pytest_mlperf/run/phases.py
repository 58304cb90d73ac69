"""One job in a runner: open, build, probe, warm up, run, score."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from pytest_mlperf.api import registry
from pytest_mlperf.api.device_dataset import Kept
from pytest_mlperf.api.device_dataset import resident_facts
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import Simulated
from pytest_mlperf.api.errors import Missing
from pytest_mlperf.api.timeline import summary
from pytest_mlperf.api.workload import Workload
from pytest_mlperf.api.workload import input_types
from pytest_mlperf.core import compliance
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.plan import plan
from pytest_mlperf.core.published import BARE_LOOP
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Mode
from pytest_mlperf.machine.affinity import bind
from pytest_mlperf.run.engine_backend import Built
from pytest_mlperf.run.engine_backend import Workbench
from pytest_mlperf.run.group_backend import FleetBench
from pytest_mlperf.run.preflight import check_build
from pytest_mlperf.run.preflight import check_memory
from pytest_mlperf.run.preflight import planned_samples
from pytest_mlperf.run.scoring import write_accuracy
from pytest_mlperf.run.scoring import write_compliance
from pytest_mlperf.run.service_session import ServiceSession
from pytest_mlperf.runner.device_group import Site
from pytest_mlperf.runner.messages import Counted
from pytest_mlperf.runner.messages import Done
from pytest_mlperf.runner.messages import Job
from pytest_mlperf.runner.messages import Message
from pytest_mlperf.runner.messages import Part
from pytest_mlperf.runner.messages import Unmet
from pytest_mlperf.sut.batch_sut import BatchSUT
from pytest_mlperf.sut.batch_sut import policy_for
from pytest_mlperf.sut.batch_sut import quiet_interpreter
from pytest_mlperf.tuning import saved
from pytest_mlperf.tuning import simulated
from pytest_mlperf.tuning.server_load import LoadSearch
from pytest_mlperf.tuning.server_load import Trial
from pytest_mlperf.tuning.server_load import Tuned


class Channel(Protocol):
    """What a session tells its parent."""

    def watch(
        self,
        sut: Counted | None,
        total: int | None = None,
        expected_s: float | None = None,
    ) -> None: ...

    def attend(self, parts: Callable[[], tuple[Part, ...]]) -> None: ...

    def enter(self, phase: str) -> None: ...

    def beat(self) -> None: ...

    def fail(self, error: BaseException) -> None: ...


class Session:
    """Keeps workload, build and tuning between the jobs of one device, or several."""

    def __init__(self, channel: Channel, site: Site) -> None:
        self.channel = channel
        self._own = Workbench(channel.beat)
        self._fleet = FleetBench(channel, site)
        self._tuned: dict[tuple[object, ...], Tuned] = {}
        self._services = ServiceSession(channel)

    def close(self) -> None:
        """End what was started."""
        self._services.close()
        self._fleet.close()

    def run(self, job: Job) -> Message:
        """Run one job; ``Unmet`` when this machine lacks something."""
        bound = str(bind(job.cpus))
        if job.service:
            self._own.forget()
            self._fleet.forget()
            return self._services.run(job)
        # A server that an earlier cell used would be in this one's way, and so would
        # what holds this device's memory.
        self._services.close()
        (self._own if job.seats else self._fleet).forget()
        try:
            return self._run(job, bound, self._fleet if job.seats else self._own)
        except Missing as missing:
            self._fleet.forget()
            return Unmet(str(missing))
        except BaseException:
            # Each device may have met it, or be at work still.
            self._fleet.forget()
            raise

    def _run(self, job: Job, bound: str, bench: Workbench | FleetBench) -> Message:
        provider = registry.engine(job.engine)
        self.channel.enter("open")
        workload = bench.workload(job)
        if job.mode is Mode.ACCURACY and workload.kind == "generated":
            raise Missing(
                f"{workload.title}: it has no accuracy; run it without accuracy "
                "items (-k 'not accuracy'), or use --mlperf-workload embedded"
            )
        self.channel.enter("build")
        built = bench.build(job)
        check_build(job, built.digest)
        self.channel.enter("probe")
        tuned = self._tune(job, provider, bench, built, workload)
        settings = self._settings(job, workload, tuned)
        check_memory(settings)
        folder = Path(job.folder)
        self.channel.enter("warm-up")
        with self._sut(job, settings, tuned, bench, workload) as sut:
            bench.warm_up(sut.engines, tuned.batch)
            self.channel.enter("run")
            self._loadgen(settings, folder, sut, bench, workload)
            measured = {
                **summary(bench.timelines(sut.engines)),
                **bench.facts(sut.engines, tuned),
            }
        resident = bench.resident() if job.residency else Kept()
        saved.write(folder, tuned)
        metrics: dict[str, float] = {}
        if job.mode is Mode.ACCURACY:
            self.channel.enter("score")
            metrics = write_accuracy(folder, workload)
        if job.mode is Mode.COMPLIANCE:
            self.channel.enter("score")
            write_compliance(job.audit, folder, job.references, workload)
        return Done(
            settings=settings,
            build=built.digest,
            reference=dict(workload.reference),
            dataset_total=workload.dataset.total,
            workload_kind=workload.kind,
            hopeless=tuned.hopeless,
            answers_only=provider.answers,
            facts={
                **facts_of(job, bound, built, workload, tuned),
                **measured,
                **resident_facts(job.residency, resident),
            },
            metrics=metrics,
            type_bytes=resident.type_bytes,
            copies=resident.copies,
        )

    def _tune(
        self,
        job: Job,
        provider: EngineProvider,
        bench: Workbench | FleetBench,
        built: Built,
        workload: Workload,
    ) -> Tuned:
        if job.tuned:
            return saved.tuned_as(job.tuned)
        scenario = job.cell.scenario
        bound = job.rule.target_latency_ns
        devices = max(1, len(job.seats))
        engine = (job.engine, built.digest, job.cpus, devices, job.residency)
        cell = (*engine, scenario, job.tuning, bound)
        # Accuracy runs as its performance run did, where there was one.
        measured = (*cell, Mode.PERFORMANCE)
        key = measured if measured in self._tuned else (*cell, job.mode)
        if isinstance(provider, Simulated):
            total = workload.dataset.total
            return simulated.tuned(provider, scenario, job.tuning, total)
        if key not in self._tuned:
            tuned = bench.measure(job)
            trial = None
            if job.mode is Mode.PERFORMANCE:
                trial = self._trial(job, bench, workload)
            cpus = len(job.seats[0].cpus if job.seats else job.cpus)
            search = LoadSearch(provider, cpus, self.channel.beat, devices)
            self._tuned[key] = search.loaded(tuned, scenario, job.tuning, bound, trial)
        return self._tuned[key]

    def _trial(
        self, job: Job, bench: Workbench | FleetBench, workload: Workload
    ) -> Trial:
        """Return a short real Server run, for the probe."""
        key = f"result_{(job.rule.percentile or 0.99) * 100:.2f}_percentile_latency_ns"

        def trial(tuned: Tuned, seconds: float) -> float:
            settings = replace(
                self._settings(job, workload, tuned),
                min_duration_ms=int(seconds * 1000),
                min_query_count=1,
            )
            with tempfile.TemporaryDirectory(prefix="pytest-mlperf-") as name:
                folder = Path(name)
                with self._sut(job, settings, tuned, bench, workload) as sut:
                    self._loadgen(settings, folder, sut, bench, workload)
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
        job: Job,
        settings: Settings,
        tuned: Tuned,
        bench: Workbench | FleetBench,
        workload: Workload,
    ) -> Iterator[BatchSUT]:
        """Open the engines' streams behind a policy; the heartbeat watches it."""
        scenario = job.cell.scenario
        policy = policy_for(scenario, tuned.batch, tuned.delay_s, tuned.preferred)
        with bench.engines(tuned) as engines:
            there = bench.placed(workload)
            sut = BatchSUT(policy, engines, there, self.channel.fail)
            total = planned_samples(settings, workload.dataset.total)
            self.channel.watch(sut, total, settings.expected_s)
            try:
                yield sut
            finally:
                self.channel.watch(None)

    def _loadgen(
        self,
        settings: Settings,
        folder: Path,
        sut: BatchSUT,
        bench: Workbench | FleetBench,
        workload: Workload,
    ) -> None:
        # Imported here: LoadGen is not needed to find out that something is missing.
        from pytest_mlperf.sut import loadgen

        with quiet_interpreter():
            library = bench.library(workload)
            loadgen.run(settings, folder, sut, library, self.channel.fail)


def facts_of(
    job: Job, bound: str, built: Built, workload: Workload, tuned: Tuned
) -> dict[str, str]:
    """Return what a verdict says of engine, workload and tuning."""
    facts = {"bound to": bound, **built.facts}
    facts |= {
        "workload": workload.title,
        "precision": built.precision,
        "input types": input_types(workload.dataset),
        "weights file": workload.model.path.name,
        "streams x threads": str(tuned.streams),
        "batch": str(tuned.batch),
        "tuning": tuned.note,
        "engine build": built.report,
        "cpus": str(len(job.cpus)),
    }
    if tuned.target_qps is not None:
        facts["target_qps"] = f"{tuned.target_qps:.4g}"
    if tuned.loop_rate is not None:
        # An engine that only answers has no rate of its own to multiply.
        alike = 1 if registry.engine(job.engine).answers else max(1, len(job.seats))
        rate = tuned.loop_rate * alike
        facts[BARE_LOOP] = f"{rate:.6g}"
    return facts
