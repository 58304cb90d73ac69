"""One job that a service answers: open, serve, probe, warm up, run, score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlperf.api import registry
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.errors import Missing
from pytest_mlperf.api.service import Target
from pytest_mlperf.api.workload import RequestWorkload
from pytest_mlperf.core.types import Mode
from pytest_mlperf.run.preflight import check_build
from pytest_mlperf.run.preflight import check_memory
from pytest_mlperf.run.scoring import write_accuracy
from pytest_mlperf.run.scoring import write_compliance
from pytest_mlperf.run.server import Servers
from pytest_mlperf.run.server import held
from pytest_mlperf.run.service_run import ServiceRun
from pytest_mlperf.run.service_run import figures
from pytest_mlperf.runner.messages import Done
from pytest_mlperf.runner.messages import Job
from pytest_mlperf.runner.messages import Message
from pytest_mlperf.runner.messages import ServiceWish
from pytest_mlperf.runner.messages import Unmet
from pytest_mlperf.tuning import saved
from pytest_mlperf.tuning.service_probe import Load
from pytest_mlperf.tuning.service_probe import ServiceProbe
from pytest_mlperf.tuning.service_probe import paced

if TYPE_CHECKING:
    from pytest_mlperf.run.phases import Channel

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
            return self._run(job, wish)

    def _run(self, job: Job, wish: ServiceWish) -> Message:
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
        # Also what the rules want in a request may be refused.
        target = replace(target, fields=dict(workload.sampling))
        target, facts = provider.check(target, workload.prompt(0), self.channel.beat)
        if (why := unaskable(job, target)) is not None:
            return Unmet(why)
        if job.mode is Mode.ACCURACY and not workload.reads_ids:
            # Nothing here could make text of them again.
            target = replace(target, asks_ids={})
        digest = identity(job, base, target)
        check_build(job, digest)
        run = ServiceRun(self.channel, job, provider, target, workload)
        self.channel.enter("probe")
        load = self._load(job, run, digest)
        run.target = replace(run.target, concurrency=load.concurrency)
        settings = run.settings(load)
        check_memory(settings)
        folder = Path(job.folder)
        self.channel.enter("warm-up")
        run.warm_up()
        self.channel.enter("run")
        stats = run.loadgen(settings, folder, lambda: self.servers.words(wish))
        saved.write(folder, load)
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

    def _load(self, job: Job, run: ServiceRun, digest: str) -> Load:
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
        load = self._loads[key]
        if job.mode is Mode.ACCURACY and job.tuning.target_qps is None:
            return paced(load)
        return load


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
        "logprobs, trtllm-serve: detokenize)"
    )
