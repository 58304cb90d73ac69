"""One job that a service answers: open, serve, probe, warm up, run, score."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlperf import registry
from pytest_mlperf.core import compliance
from pytest_mlperf.core.log import Log
from pytest_mlperf.core.published import BARE_LOOP
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.settings import plan
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.engine import content_hash
from pytest_mlperf.job import Done
from pytest_mlperf.job import Job
from pytest_mlperf.job import Message
from pytest_mlperf.job import Unmet
from pytest_mlperf.preflight import check_build
from pytest_mlperf.preflight import check_memory
from pytest_mlperf.preflight import planned_samples
from pytest_mlperf.request_sut import RequestSUT
from pytest_mlperf.scoring import write_accuracy
from pytest_mlperf.scoring import write_compliance
from pytest_mlperf.servers import Servers
from pytest_mlperf.servers import held
from pytest_mlperf.service import EndpointStats
from pytest_mlperf.service import RequestFailed
from pytest_mlperf.service import ServiceProvider
from pytest_mlperf.service import Target
from pytest_mlperf.services import errand
from pytest_mlperf.sut import quiet_interpreter
from pytest_mlperf.tuning import kept
from pytest_mlperf.tuning.service_probe import Load
from pytest_mlperf.tuning.service_probe import ServiceProbe
from pytest_mlperf.tuning.service_probe import share_of_bounds
from pytest_mlperf.workload import Missing
from pytest_mlperf.workload import RequestWorkload

if TYPE_CHECKING:
    from pytest_mlperf.session import Channel

WARM_UP = 16
"""Requests before a run, at most, unless the system file says how many."""
Words = Callable[[], str]
"""Returns what the server has to say about its end."""
NEEDS_IDS = ("TEST06", "TEST09")
"""Compliance tests that look at token ids."""


class ServiceSession:
    """Keeps workload, server and tuning between the jobs of one device."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.servers = Servers(channel)
        self._workloads: dict[tuple[object, ...], RequestWorkload] = {}
        self._loads: dict[tuple[object, ...], Load] = {}

    def close(self) -> None:
        """End the server, if one was started."""
        self.servers.stop()

    def run(self, job: Job) -> Message:
        """Run one job; ``Unmet`` when this machine lacks something."""
        wish = job.service
        assert wish is not None, "a service answers this job"
        self.channel.enter("server")
        with held(wish.urls, Path(job.cache), self.channel.beat):
            return self._run(job)

    def _run(self, job: Job) -> Message:
        provider = registry.service(job.engine)
        try:
            self.channel.enter("open")
            base = self._workload(job)
            workload = base.during(job.mode)
            if (why := unscorable(job, workload)) is not None:
                return Unmet(why)
            self.channel.enter("server")
            target = self.servers.target(job, base)
        except Missing as missing:
            return Unmet(str(missing))
        self.channel.enter("check")
        target, facts = provider.check(target, workload.prompt(0), self.channel.beat)
        if (why := unaskable(job, target)) is not None:
            return Unmet(why)
        if job.mode is Mode.ACCURACY and not workload.reads_ids:
            # Nothing here could make text of them again.
            target = replace(target, asks_ids={})
        digest = identity(job, base, target)
        check_build(job, digest)
        run = _Run(self.channel, job, provider, target, workload)
        self.channel.enter("probe")
        load = self._load(job, run, digest)
        run.target = replace(target, concurrency=load.concurrency)
        settings = run.settings(load)
        check_memory(settings)
        folder = Path(job.folder)
        self.channel.enter("warm-up")
        run.warm_up()
        self.channel.enter("run")
        stats = run.loadgen(settings, folder, self.servers.words)
        kept.write(folder, load)
        metrics: dict[str, float] = {}
        if job.mode is Mode.ACCURACY:
            self.channel.enter("score")
            metrics = write_accuracy(folder, workload)
        if job.mode is Mode.COMPLIANCE:
            self.channel.enter("score")
            write_compliance(job.audit, folder, job.references, workload)
        return Done(
            settings=settings,
            build=digest,
            reference=dict(workload.reference),
            dataset_total=workload.total,
            workload_kind=workload.kind,
            hopeless=load.hopeless,
            facts={
                **facts,
                **self.servers.facts,
                **run.facts(load),
                **figures(stats),
            },
            metrics=metrics,
        )

    def _workload(self, job: Job) -> RequestWorkload:
        benchmark = registry.request_benchmark(job.cell.benchmark)
        key = (job.cell.benchmark, job.workload, job.scratch)
        if key not in self._workloads:
            # One dataset at a time: it may be most of the memory.
            self._workloads.clear()
            self._loads.clear()
            scratch = Path(job.scratch) if job.scratch else None
            self._workloads[key] = benchmark.workload(job.workload, scratch)
        return self._workloads[key]

    def _load(self, job: Job, run: _Run, digest: str) -> Load:
        if job.tuned:
            return Load(**job.tuned)
        wish = job.service
        assert wish is not None
        width = wish.concurrency or self.servers.concurrency
        cell = (digest, job.cell.scenario, job.rule, job.tuning, width)
        # Accuracy runs as its performance run did, where there was one.
        measured = (*cell, Mode.PERFORMANCE)
        key = measured if measured in self._loads else (*cell, job.mode)
        if key not in self._loads:
            queries = run.settings(Load(1)).min_query_count
            with run.loaded():
                probe = ServiceProbe(
                    run.loop, run.trial, len(run.target.urls),
                    lambda what: self.channel.enter(f"probe {what}"),
                )  # fmt: skip
                self._loads[key] = probe.tune(
                    job.rule, job.mode, job.tuning, width, queries
                )
        return self._loads[key]


class _Run:
    """One job's requests to one target."""

    def __init__(
        self,
        channel: Channel,
        job: Job,
        provider: ServiceProvider,
        target: Target,
        workload: RequestWorkload,
    ) -> None:
        self.channel = channel
        self.job = job
        self.provider = provider
        self.workload = workload
        rule = job.rule
        # A first token that nobody times costs the client twice the work.
        self.firsts = rule.use_token_latencies and (
            rule.scenario is not Scenario.OFFLINE
        )
        self.target = replace(target, stream=self.firsts)
        self.requests = provider.requests(self.target, workload)

    @property
    def _available(self) -> int:
        return min(self.requests.total, self.requests.performance_count)

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """Have the requests that a probe sends; LoadGen loads its own."""
        probed = range(self._available)
        self.requests.load(probed)
        try:
            yield
        finally:
            self.requests.unload(probed)

    def loop(self, outstanding: int, count: int, limit_s: float) -> errand.Errand:
        """Keep so many requests outstanding, without LoadGen."""
        target = replace(self.target, concurrency=outstanding)
        return errand.run(
            lambda listener: self.provider.open(target, self.requests, listener),
            range(self._available),
            outstanding=outstanding,
            count=count,
            beat=self.channel.beat,
            limit_s=limit_s,
        )

    def trial(self, load: Load, seconds: float) -> float:
        """Return the worst share of a bound in a short real Server run."""
        short = replace(
            self.settings(load),
            min_duration_ms=int(seconds * 1000),
            min_query_count=1,
            # It would take every sample of the dataset, however few a second.
            equal_issue=False,
        )
        before = self.target
        self.target = replace(before, concurrency=load.concurrency)
        with tempfile.TemporaryDirectory(prefix="pytest-mlperf-") as name:
            folder = Path(name)
            self.loadgen(short, folder, lambda: "")
            self.requests.load(range(self._available))  # LoadGen has unloaded them
            share = share_of_bounds(self.job.rule, Log.read(folder).number)
        self.target = before
        return share

    def settings(self, load: Load) -> Settings:
        """Return what LoadGen is asked for."""
        job = self.job
        return plan(
            job.rule,
            job.seeds,
            job.mode,
            available=self._available,
            shortening=job.shortening,
            target_qps=load.target_qps,
            expected_latency_ns=load.expected_latency_ns,
            audit=compliance.find(job.audit, job.rule) if job.audit else None,
        )

    def warm_up(self) -> None:
        """Send the requests that a run begins with, untimed."""
        wish = self.job.service
        assert wish is not None, "a service answers this job"
        count = wish.warm_up
        if count is None:
            count = min(WARM_UP, self.target.concurrency)
        if count:
            with self.loaded():
                outstanding = min(count, self.target.concurrency)
                self.loop(outstanding, count, self.target.timeout_s)

    def loadgen(
        self, settings: Settings, folder: Path, words: Words
    ) -> tuple[EndpointStats, ...]:
        """Run LoadGen; a request that fails ends this process with words."""
        # Imported here: LoadGen is not needed to find out that something is missing.
        from pytest_mlperf import loadgen

        def failed(error: BaseException) -> None:
            self.channel.fail(explained(error, words()))

        sut = RequestSUT(
            lambda listener: self.provider.open(self.target, self.requests, listener),
            self.workload.encode,
            failed,
            tokens=settings.token_latencies,
            firsts=self.firsts,
        )
        total = planned_samples(settings, self.requests.total)
        self.channel.watch(sut, total, settings.expected_s)
        try:
            with quiet_interpreter():
                loadgen.run(settings, folder, sut, self.requests, failed)
        finally:
            self.channel.watch(None)
        return sut.stats

    def facts(self, load: Load) -> dict[str, str]:
        """Return what a reader of the verdict wants to know."""
        job, target = self.job, self.target
        found = {
            "workload": self.workload.title,
            "precision": job.tuning.precision or "the server's own",
            "input types": "int32" if self.workload.prompt(0).token_ids else "text",
            "endpoints": ", ".join(target.urls),
            "interface": "chat completions" if target.chat else "completions",
            "streamed": "yes" if target.stream else "no, whole answers",
            "concurrency": str(load.concurrency),
            "balance": target.balance,
            "tuning": load.note,
        }
        found |= {f"not judged: {k}": why for k, why in self.workload.unjudged.items()}
        if load.target_qps is not None:
            found["target_qps"] = f"{load.target_qps:.4g}"
        if load.loop_rate is not None:
            found[BARE_LOOP] = f"{load.loop_rate:.6g}"
        return found


def identity(job: Job, workload: RequestWorkload, target: Target) -> str:
    """Return the content hash of what answers: server or endpoints, model, data."""
    wish = job.service
    assert wish is not None, "a service answers this job"
    # The port of a started server is another each time.
    where = wish.server.command if wish.server else wish.urls
    return content_hash(
        {
            "service": job.engine,
            "where": where,
            "model": target.model if wish.urls or wish.server else "embedded",
            "precision": job.tuning.precision,
            "target": job.cell.target,
            "chat": target.chat,
            "workload": workload.digest,
        }
    )


def unscorable(job: Job, workload: RequestWorkload) -> str | None:
    """Return why a job's answers cannot be judged here; found before they are asked."""
    judged = [limit.metric for limit in job.rule.accuracy]
    lacking = [f"{k}: {v}" for k, v in workload.unjudged.items() if k in judged]
    if job.mode is Mode.ACCURACY and lacking:
        return (
            f"{job.cell.model}'s accuracy cannot be judged here, and is not passed "
            f"over: {'; '.join(lacking)}"
        )
    if job.audit == "TEST07":
        return (
            "TEST07 asks the accuracy set's questions in a performance run, and this "
            "suite opens the performance set for one; run it with the reference's "
            "script, on the questions that compliance/TEST07 names"
        )
    return None


def unaskable(job: Job, target: Target) -> str | None:
    """Return why a compliance test cannot be run on a service."""
    if job.audit not in NEEDS_IDS or target.asks_ids:
        return None
    return (
        f"{job.audit} looks at token ids, and {', '.join(target.urls)} tells none in a "
        "test completion; use a server that does (vLLM: return_token_ids, llama.cpp: "
        "logprobs)"
    )


def explained(error: BaseException, words: str) -> BaseException:
    """Return a request's failure with what became of the server."""
    if not words or not isinstance(error, RequestFailed):
        return error
    problem = f"{error.problem}. {words}"
    return RequestFailed(error.url, error.sample, error.after_s, problem)


def figures(stats: Sequence[EndpointStats]) -> dict[str, str]:
    """Return each endpoint's figures as facts of the run."""
    if len(stats) == 1:
        return {f"endpoint {k}": value for k, value in stats[0].facts().items()}
    return {
        f"endpoint {one.url} {name}": value
        for one in stats
        for name, value in one.facts().items()
    }
