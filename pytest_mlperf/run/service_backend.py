"""The backend of a service: endpoints that run already, or a server started here."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace

from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.service import Requests
from pytest_mlperf.api.service import SendsBatches
from pytest_mlperf.api.service import ServiceProvider
from pytest_mlperf.api.workload import CountsUnits
from pytest_mlperf.api.workload import PromptWorkload
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.run.channel import Channel
from pytest_mlperf.run.engine_backend import benchmark_of
from pytest_mlperf.run.engine_backend import workload_key
from pytest_mlperf.run.protocol import ShortRun
from pytest_mlperf.run.run_facts import add_breakdown
from pytest_mlperf.run.run_facts import identify_service
from pytest_mlperf.run.run_facts import make_service_facts
from pytest_mlperf.run.run_facts import spec_of
from pytest_mlperf.run.server import Servers
from pytest_mlperf.run.server import lock_endpoints
from pytest_mlperf.run.service_client import ServiceClient
from pytest_mlperf.runner.batch_times import BatchLoad
from pytest_mlperf.runner.batch_times import BatchTimes
from pytest_mlperf.runner.messages import Built
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.request_sut import RequestSUT
from pytest_mlperf.sut.tuned_load import ServiceTuned
from pytest_mlperf.tuning.queue_model import RunLength
from pytest_mlperf.tuning.service_probe import pace


class ServiceBackend:
    """Keeps workload, server and tuning between the tasks of one runner."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._servers = Servers(channel)
        self._workloads: dict[tuple[object, ...], PromptWorkload | TensorWorkload] = {}
        self._tunings: dict[tuple[object, ...], ServiceTuned] = {}
        self._texts: Mapping[str, str] = {}
        self._client: ServiceClient | None = None
        self._workload: PromptWorkload | TensorWorkload | None = None
        self._digest = ""
        self._sut: RequestSUT | None = None

    @property
    def workload(self) -> PromptWorkload | TensorWorkload:
        assert self._workload is not None, "open() comes first"
        return self._workload

    @property
    def client(self) -> ServiceClient:
        assert self._client is not None, "build() comes first"
        return self._client

    @property
    def samples(self) -> Requests:
        return self.client.samples

    @contextmanager
    def reserve(self, task: Task) -> Iterator[None]:
        """Keep other workers of this host off the endpoints."""
        self._channel.enter("server")
        with lock_endpoints(spec_of(task).urls, task.cache, self._channel.beat):
            yield

    def open(self, task: Task) -> PromptWorkload | TensorWorkload:
        base = self._open_workload(task)
        workload = base.during(task.mode) if isinstance(base, PromptWorkload) else base
        if why := why_unscorable(task, workload):
            raise RequirementMissing(why)
        self._workload = workload
        return workload

    def _open_workload(self, task: Task) -> PromptWorkload | TensorWorkload:
        benchmark = benchmark_of(task)
        key = workload_key(task)
        if key not in self._workloads:
            # One dataset at a time: it may be most of the memory.
            self._workloads.clear()
            self._tunings.clear()
            opened = benchmark.open_workload(task.workload, task.scratch)
            if not isinstance(opened, PromptWorkload | TensorWorkload):
                raise RunRefused(
                    f"{opened.title} has neither prompts nor tensors to send; it "
                    "should be a PromptWorkload or a TensorWorkload (docs/extend)"
                )
            self._workloads[key] = opened
        return self._workloads[key]

    def choose_precision(self, task: Task) -> Task:
        """Return the task as it is: the server has its own."""
        return task

    def build(self, task: Task) -> Built:
        """Have a server that answers: started or found, and asked once."""
        provider: ServiceProvider = task.provider.load()
        workload, base = self.workload, self._open_workload(task)
        target = self._servers.target(task, base)
        self._channel.enter("check")
        if isinstance(workload, PromptWorkload):
            # Also what the rules want in a request may be refused.
            target = replace(target, fields=dict(workload.sampling))
        target, texts = provider.check(target, workload, self._channel.beat)
        if task.audit:
            where, tells_ids = ", ".join(target.urls), bool(target.asks_ids)
            test = task.audit.test
            if why := test.refusal(where, tells_token_ids=tells_ids):
                raise RequirementMissing(why)
        reads_ids = isinstance(workload, PromptWorkload) and workload.reads_ids
        if task.mode is Mode.ACCURACY and not reads_ids:
            # Nothing here could make text of them again.
            target = replace(target, asks_ids={})
        # A first token that nobody times costs the client twice the work.
        timed = task.rule.use_token_latencies
        streams = timed and task.rule.scenario is not Scenario.OFFLINE
        target = replace(target, stream=streams)
        self._digest = identify_service(task, base.digest, target)
        self._client = ServiceClient(
            provider, target, workload, self._channel,
            is_over_network=spec_of(task).over_network,
        )  # fmt: skip
        self._texts = texts
        return Built(self._digest, task.precision, "", dict(texts))

    @property
    def tuning(self) -> type[ServiceTuned]:
        return ServiceTuned

    def tune(
        self,
        task: Task,
        settings: Callable[[ServiceTuned], Settings],
        run: ShortRun[ServiceTuned],
    ) -> ServiceTuned:
        width = spec_of(task).concurrency or self._servers.concurrency
        cell = (self._digest, task.cell, task.tuning, width)
        # Accuracy runs as its performance run did, where there was one.
        measured = (*cell, Mode.PERFORMANCE)
        key = measured if measured in self._tunings else (*cell, task.mode)
        if key not in self._tunings:
            length = plan_run_length(task, settings(ServiceTuned(1)))
            self._tunings[key] = self.client.probe(task, width, length, run)
        tuned = self._tunings[key]
        if task.mode is Mode.ACCURACY and task.tuning.target_qps is None:
            return pace(tuned)
        return tuned

    @contextmanager
    def sut(
        self,
        task: Task,  # noqa: ARG002 - one shape
        tuned: ServiceTuned,
        settings: Settings,
        fail: Callable[[BaseException], None],
    ) -> Iterator[RequestSUT]:
        self._servers.is_used = True
        self._sut = self.client.make_sut(tuned, settings, fail)
        yield self._sut

    def warm_up(self, task: Task, tuned: ServiceTuned) -> None:
        """Send the requests that a run begins with."""
        self.client.warm_up(spec_of(task).warm_up, tuned.concurrency)

    def facts(self, task: Task, tuned: ServiceTuned) -> RunFacts:
        texts = {**self._texts, **self._servers.facts}
        stats = self._sut.stats if self._sut else ()
        target = self.client.target
        facts = make_service_facts(task, tuned, target, self.workload, stats, texts)
        return add_breakdown(facts, task, self._sut.breakdown if self._sut else "")

    def finish(self, task: Task, result: RunResult) -> RunResult:  # noqa: ARG002
        return result

    def explain(self, error: BaseException) -> BaseException:
        """Return a request's failure with what became of the server."""
        if not isinstance(error, RequestFailed):
            return error
        if not (words := self._servers.last_words()):
            return error
        problem = f"{error.problem}. {words}"
        return RequestFailed(error.url, error.sample, error.after_s, problem)

    def time_batches(self, task: Task, load: BatchLoad) -> BatchTimes:
        """Return what requests of several samples take."""
        provider = task.provider.load()
        if not isinstance(provider, SendsBatches):
            raise RunRefused(
                f"{task.cell.id} is answered by a service, which has no bare engine "
                "here; choose an engine with --mlperf-engine"
            )
        self._servers.is_used = True
        target = self.client.target
        workload = self.workload
        if load.in_units and isinstance(workload, CountsUnits):
            workload = workload.in_units()
        requests = provider.batched_requests(target, workload, load.size)
        try:
            return self.client.time_requests(requests, load)
        except RequestFailed as error:
            raise RunRefused(str(self.explain(error))) from None

    def forget(self) -> None:
        """End the server, which would be in another backend's way."""
        self._servers.stop()

    def close(self) -> None:
        self._servers.stop()


def plan_run_length(task: Task, settings: Settings) -> RunLength:
    """Return how long the task's run has to be, and may be."""
    shortening = task.shortening
    return RunLength(
        settings.min_query_count,
        settings.min_duration_ms / 1000,
        bool(shortening and shortening.query_count),
        task.time_limit_s,
    )


def why_unscorable(task: Task, workload: PromptWorkload | TensorWorkload) -> str:
    """Return why a task's answers cannot be judged here, before they are asked for."""
    unjudged = workload.unjudged if isinstance(workload, PromptWorkload) else {}
    judged = [limit.metric for limit in task.rule.accuracy]
    lacking = [f"{k}: {v}" for k, v in unjudged.items() if k in judged]
    if task.mode is Mode.ACCURACY and lacking:
        return (
            f"{task.cell.model}'s accuracy cannot be judged here, and is not passed "
            f"over: {'; '.join(lacking)}"
        )
    return task.audit.test.refusal() if task.audit else ""
