"""One job's requests to one target: in a probe, in a warm-up, and under LoadGen."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlperf.api import registry
from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.service import EndpointStats
from pytest_mlperf.api.service import ServiceProvider
from pytest_mlperf.api.service import Target
from pytest_mlperf.api.workload import RequestWorkload
from pytest_mlperf.core import compliance
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.plan import plan
from pytest_mlperf.core.published import BARE_LOOP
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.run.preflight import planned_samples
from pytest_mlperf.runner.messages import Job
from pytest_mlperf.services import request_batch
from pytest_mlperf.sut.batch_sut import quiet_interpreter
from pytest_mlperf.sut.request_sut import RequestSUT
from pytest_mlperf.tuning.service_probe import Load
from pytest_mlperf.tuning.service_probe import share_of_bounds

if TYPE_CHECKING:
    from pytest_mlperf.run.phases import Channel

WARM_UP = 16
"""Requests before a run, at most, unless the system file says how many."""
Words = Callable[[], str]
"""Returns what the server has to say about its end."""


class ServiceRun:
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
        self.precision = job.tuning.precision or ""
        wish = job.service
        if wish and not wish.urls and not wish.server:
            benchmark = registry.request_benchmark(job.cell.benchmark)
            self.precision = self.precision or benchmark.precision(job.cell.target)
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

    def loop(
        self, outstanding: int, count: int, limit_s: float
    ) -> request_batch.Errand:
        """Keep so many requests outstanding, without LoadGen."""
        target = replace(self.target, concurrency=outstanding)
        return request_batch.run(
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
        from pytest_mlperf.sut import loadgen

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
        target = self.target
        found = {
            "workload": self.workload.title,
            "precision": self.precision or "the server's own",
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
