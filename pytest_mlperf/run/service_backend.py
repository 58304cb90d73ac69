"""The backend of a service: endpoints that run already, or a server started here."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.request_batch import RequestBatch
from pytest_mlperf.api.request_batch import send_all
from pytest_mlperf.api.service import EndpointStats
from pytest_mlperf.api.service import Requests
from pytest_mlperf.api.service import ServiceProvider
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.api.workload import PromptWorkload
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import input_types
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.run.backend import ShortRun
from pytest_mlperf.run.engine_backend import benchmark_of
from pytest_mlperf.run.engine_backend import token_timing
from pytest_mlperf.run.server import Servers
from pytest_mlperf.run.server import lock_endpoints
from pytest_mlperf.runner.messages import Built
from pytest_mlperf.runner.messages import Channel
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import ServiceSpec
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.request_sut import RequestSUT
from pytest_mlperf.sut.request_sut import encoder_of
from pytest_mlperf.tuning.service_probe import ServiceProbe
from pytest_mlperf.tuning.service_probe import ServiceTuned
from pytest_mlperf.tuning.service_probe import pace
from pytest_mlperf.tuning.service_probe import share_of_bounds

WARM_UP = 16
"""Requests before a run, at most, unless the system file says how many."""


class ServiceBackend:
    """Keeps workload, server and tuning between the tasks of one runner."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._servers = Servers(channel)
        self._workloads: dict[tuple[object, ...], PromptWorkload | TensorWorkload] = {}
        self._tunings: dict[tuple[object, ...], ServiceTuned] = {}
        self._texts: Mapping[str, str] = {}
        self._target: ServiceTarget | None = None
        self._requests: Requests | None = None
        self._workload: PromptWorkload | TensorWorkload | None = None
        self._digest = ""
        self._spec: ServiceSpec | None = None
        self._sut: RequestSUT | None = None

    @property
    def workload(self) -> PromptWorkload | TensorWorkload:
        assert self._workload is not None, "open() comes first"
        return self._workload

    @property
    def target(self) -> ServiceTarget:
        assert self._target is not None, "build() comes first"
        return self._target

    @property
    def samples(self) -> Requests:
        assert self._requests is not None, "build() comes first"
        return self._requests

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
        key = (task.cell.benchmark, task.workload, task.scratch)
        if key not in self._workloads:
            # One dataset at a time: it may be most of the memory.
            self._workloads.clear()
            self._tunings.clear()
            opened = benchmark_of(task).open_workload(task.workload, task.scratch)
            if not isinstance(opened, PromptWorkload | TensorWorkload):
                raise RunRefused(
                    f"{opened.title} has neither prompts nor tensors to send; it "
                    "should be a PromptWorkload or a TensorWorkload (docs/extend)"
                )
            self._workloads[key] = opened
        return self._workloads[key]

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
        self._digest = identify_service(task, base.digest, target)
        # A first token that nobody times costs the client twice the work.
        timed = task.rule.use_token_latencies
        streams = timed and task.rule.scenario is not Scenario.OFFLINE
        self._target = replace(target, stream=streams)
        self._requests = provider.requests(self._target, workload)
        self._texts, self._spec = texts, spec_of(task)
        return Built(self._digest, task.precision, "", dict(texts))

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
            self._tunings[key] = self._probe(task, width, settings, run)
        tuned = self._tunings[key]
        if task.mode is Mode.ACCURACY and task.tuning.target_qps is None:
            return pace(tuned)
        return tuned

    def _probe(
        self,
        task: Task,
        width: int | None,
        settings: Callable[[ServiceTuned], Settings],
        run: ShortRun[ServiceTuned],
    ) -> ServiceTuned:
        queries = settings(ServiceTuned(1)).min_query_count

        def trial(tuned: ServiceTuned, seconds: float) -> float:
            share = run(
                tuned, seconds, lambda log: share_of_bounds(task.rule, log.number)
            )
            self.samples.load(range(self._loaded))  # LoadGen has unloaded them
            return share

        with self._load_samples(task):
            probe = ServiceProbe(
                lambda *given: self._send(task, *given), trial, len(self.target.urls),
                lambda what: self._channel.enter(f"probe {what}"),
            )  # fmt: skip
            return probe.tune(task.rule, task.mode, task.tuning, width, queries)

    @property
    def _loaded(self) -> int:
        return min(self.samples.total, self.samples.performance_count)

    @contextmanager
    def _load_samples(self, task: Task) -> Iterator[None]:  # noqa: ARG002
        """Have the requests that a probe sends; LoadGen loads its own."""
        probed = range(self._loaded)
        self.samples.load(probed)
        try:
            yield
        finally:
            self.samples.unload(probed)

    def _send(
        self, task: Task, outstanding: int, count: int, limit_s: float
    ) -> RequestBatch:
        """Keep so many requests outstanding, without LoadGen."""
        provider: ServiceProvider = task.provider.load()
        target = replace(self.target, concurrency=outstanding)
        return send_all(
            lambda listener: provider.open(target, self.samples, listener),
            range(self._loaded),
            outstanding=outstanding,
            count=count,
            beat=self._channel.beat,
            limit_s=limit_s,
        )

    def tuned_from(self, values: Mapping[str, Any]) -> ServiceTuned:
        return ServiceTuned(**values)

    @contextmanager
    def sut(
        self,
        task: Task,
        tuned: ServiceTuned,
        settings: Settings,
        fail: Callable[[BaseException], None],
    ) -> Iterator[RequestSUT]:
        provider: ServiceProvider = task.provider.load()
        target = replace(self.target, concurrency=tuned.concurrency)
        self._servers.is_used = True
        self._sut = RequestSUT(
            lambda listener: provider.open(target, self.samples, listener),
            encoder_of(self.workload),
            fail,
            token_timing(settings),
        )
        yield self._sut

    def warm_up(self, task: Task, tuned: ServiceTuned) -> None:
        """Send the requests that a run begins with."""
        count = spec_of(task).warm_up
        if count is None:
            count = min(WARM_UP, tuned.concurrency)
        if count:
            with self._load_samples(task):
                outstanding = min(count, tuned.concurrency)
                self._send(task, outstanding, count, self.target.timeout_s)

    def facts(self, task: Task, tuned: ServiceTuned) -> RunFacts:
        workload, target = self.workload, self.target
        texts = {
            **self._texts,
            **self._servers.facts,
            "endpoints": ", ".join(target.urls),
            "concurrency": str(tuned.concurrency),
            "balance": target.balance,
            "tuning": tuned.note,
            **endpoint_texts(self._sut.stats if self._sut else ()),
        }
        if not task.precision:
            texts["precision"] = "the server's own"
        types: tuple[str, ...]
        if isinstance(workload, PromptWorkload):
            types = ("int32" if workload.prompt(0).token_ids else "text",)
            texts["interface"] = "chat completions" if target.chat else "completions"
            texts["streamed"] = "yes" if target.stream else "no, whole answers"
            unjudged = workload.unjudged.items()
            texts |= {f"not judged: {name}": why for name, why in unjudged}
        else:
            types = input_types(workload.dataset)
        if tuned.target_qps is not None:
            texts["target_qps"] = f"{tuned.target_qps:.4g}"
        return RunFacts(
            precision=task.precision,
            input_types=types,
            workload=workload.title,
            bare_loop_per_s=tuned.loop_rate,
            texts=texts,
        )

    def finish(self, task: Task, result: RunResult) -> RunResult:  # noqa: ARG002
        return result

    def explain(self, error: BaseException) -> BaseException:
        """Return a request's failure with what became of the server."""
        if not isinstance(error, RequestFailed) or self._spec is None:
            return error
        if not (words := self._servers.last_words(self._spec)):
            return error
        problem = f"{error.problem}. {words}"
        return RequestFailed(error.url, error.sample, error.after_s, problem)

    def time_batches(
        self,
        task: Task,
        size: int,
        count: int,  # noqa: ARG002 - one shape
    ) -> tuple[float, ...]:
        raise RunRefused(
            f"{task.cell.id} is answered by a service, which has no bare engine here; "
            "choose an engine with --mlperf-engine"
        )

    def forget(self) -> None:
        """End the server, which would be in another backend's way."""
        self._servers.stop()

    def close(self) -> None:
        self._servers.stop()


def spec_of(task: Task) -> ServiceSpec:
    """Return where the task's service is."""
    assert task.service is not None, "a service answers this task"
    return task.service


def endpoint_texts(stats: Sequence[EndpointStats]) -> dict[str, str]:
    """Return each endpoint's figures as texts of the run."""
    if len(stats) == 1:
        return {f"endpoint {k}": value for k, value in stats[0].facts().items()}
    return {
        f"endpoint {one.url} {name}": value
        for one in stats
        for name, value in one.facts().items()
    }


def identify_service(task: Task, workload: str, target: ServiceTarget) -> str:
    """Return the content hash of what answers: server or endpoints, model, data.

    ``workload``: its digest.
    """
    spec = spec_of(task)
    # The port of a started server is another each time.
    where = spec.server.command if spec.server else spec.urls
    return content_hash(
        {
            "service": task.cell.engine,
            "where": where,
            "model": target.model if spec.urls or spec.server else "embedded",
            "precision": task.tuning.precision,
            "target": task.cell.target,
            "chat": target.chat,
            "workload": workload,
        }
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
