"""One task's requests to one target: in a probe, in a warm-up, and under LoadGen."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from pytest_mlperf.api.request_batch import RequestBatch
from pytest_mlperf.api.request_batch import send_all
from pytest_mlperf.api.request_batch import send_when_due
from pytest_mlperf.api.service import BreaksDownLatency
from pytest_mlperf.api.service import Listener
from pytest_mlperf.api.service import NamesServers
from pytest_mlperf.api.service import Requests
from pytest_mlperf.api.service import Service
from pytest_mlperf.api.service import ServiceProvider
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.api.workload import PromptWorkload
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.machine.cpu_usage import CpuTime
from pytest_mlperf.run.channel import Channel
from pytest_mlperf.run.protocol import ShortRun
from pytest_mlperf.runner.batch_times import BatchLoad
from pytest_mlperf.runner.batch_times import BatchTimes
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.completion import token_timing
from pytest_mlperf.sut.request_sut import RequestSUT
from pytest_mlperf.sut.request_sut import encoder_of
from pytest_mlperf.sut.tuned_load import ServiceTuned
from pytest_mlperf.tuning.queue_model import RunLength
from pytest_mlperf.tuning.quiet import QuietMeter
from pytest_mlperf.tuning.service_probe import LoadTails
from pytest_mlperf.tuning.service_probe import ServiceProbe
from pytest_mlperf.tuning.service_probe import read_tails

WARM_UP = 16
"""Requests before a run, at most, unless the system file says how many."""
NETWORK_SUT = "Network SUT"
"""What a SUT over a network is called, among other words."""


class ServiceClient:
    """A provider, a target that answered a test request, and a workload's requests."""

    def __init__(
        self,
        provider: ServiceProvider,
        target: ServiceTarget,
        workload: PromptWorkload | TensorWorkload,
        channel: Channel,
        *,
        is_over_network: bool = False,
    ) -> None:
        self.is_over_network = is_over_network
        self.target = target
        self.samples = provider.requests(target, workload)
        self._provider, self._workload, self._channel = provider, workload, channel

    @property
    def _loaded(self) -> int:
        return min(self.samples.total, self.samples.performance_count)

    @contextmanager
    def _load_samples(self) -> Iterator[None]:
        """Have the requests that a probe sends; LoadGen loads its own."""
        self.samples.load(range(self._loaded))
        try:
            yield
        finally:
            self.samples.unload(range(self._loaded))

    def _open(self, concurrency: int) -> Callable[[Listener], Service]:
        target = replace(self.target, concurrency=concurrency)
        return lambda listener: self._provider.open(target, self.samples, listener)

    def _send(self, outstanding: int, count: int, limit_s: float) -> RequestBatch:
        """Keep so many requests outstanding, without LoadGen."""
        return send_all(
            self._open(outstanding),
            range(self._loaded),
            outstanding=outstanding,
            count=count,
            beat=self._channel.beat,
            limit_s=limit_s,
        )

    def probe(
        self,
        task: Task,
        width: int | None,
        length: RunLength,
        run: ShortRun[ServiceTuned],
    ) -> ServiceTuned:
        """Return how the task runs.

        ``width``: requests outstanding, where that is fixed; ``length``: of a run.
        """

        def trial(tuned: ServiceTuned, seconds: float) -> LoadTails:
            shown = run(tuned, seconds, lambda log: read_tails(task.rule, log.number))
            self.samples.load(range(self._loaded))  # LoadGen has unloaded them
            return shown

        # Another machine's CPUs are not for us to watch.
        is_here = task.service is not None and not task.service.urls
        meter = (
            QuietMeter(partial(CpuTime.read, task.cpus)) if is_here else QuietMeter()
        )

        with self._load_samples():
            probe = ServiceProbe(
                self._send, trial, len(self.target.urls),
                lambda what: self._channel.enter(f"probe {what}"), meter,
            )  # fmt: skip
            found = probe.tune(task.rule, task.mode, task.tuning, width, length)
            return replace(found, note=found.note + meter.note)

    def time_requests(self, requests: Requests, load: BatchLoad) -> BatchTimes:
        """Return what requests take without LoadGen."""
        beat = self._channel.beat
        return time_requests(self._provider, self.target, requests, load, beat)

    def warm_up(self, count: int | None, concurrency: int) -> None:
        """Send the requests that a run begins with; None: a few."""
        if count is None:
            count = min(WARM_UP, concurrency)
        if count:
            with self._load_samples():
                self._send(min(count, concurrency), count, self.target.timeout_s)

    def make_sut(
        self,
        tuned: ServiceTuned,
        settings: Settings,
        fail: Callable[[BaseException], None],
    ) -> RequestSUT:
        """Return the service behind LoadGen's callbacks."""
        timing, encoder = token_timing(settings), encoder_of(self._workload)
        return RequestSUT(
            self._open(tuned.concurrency), encoder, fail, timing, self._network_name
        )

    @property
    def _network_name(self) -> Callable[[], str] | None:
        """What asks the servers of a network run for their names; None for others."""
        if not self.is_over_network:
            return None
        provider, target = self._provider, self.target
        if not isinstance(provider, NamesServers):
            raise RunRefused(
                "--mlperf-division network: this service's servers tell no names, "
                "which the rules want of them; use --mlperf-triton"
            )
        return lambda: name_network_sut(provider.ask_names(target))


def time_requests(
    provider: ServiceProvider,
    target: ServiceTarget,
    requests: Requests,
    load: BatchLoad,
    beat: Callable[[], None] = lambda: None,
) -> BatchTimes:
    """Return what requests take without LoadGen.

    At a rate, the target's own concurrency bounds what is outstanding: the rest waits.
    """
    loaded = range(min(requests.total, requests.performance_count, load.count))
    if not load.rate:
        target = replace(target, concurrency=load.outstanding)
    due = load.draw_due() if load.rate else ()
    opened: list[Service] = []

    def open_service(listener: Listener) -> Service:
        opened.append(provider.open(target, requests, listener))
        return opened[0]

    requests.load(loaded)
    try:
        batch = (
            send_when_due(open_service, loaded, due, beat)
            if due
            else send_all(
                open_service, loaded, outstanding=load.outstanding, count=load.count,
                beat=beat,
            )
        )  # fmt: skip
    finally:
        requests.unload(loaded)
    service: object = opened[0]
    steps_us: Mapping[str, float] = {}
    if isinstance(service, BreaksDownLatency):
        found = service.breakdown(batch.mean_s)
        steps_us = {} if isinstance(found, str) else found.to_us()
    return BatchTimes(batch.latencies, steps_us, batch.seconds, due)


def name_network_sut(names: Mapping[str, str]) -> str:
    """Return the SUT's name of a network run from URL -> the server's own name.

    Every node has a unique one (inference rules, QDL constraints): its address is in
    it, because every Triton calls itself ``triton``.
    """
    nodes = [f"{name or 'node'} at {url}" for url, name in names.items()]
    return f"{NETWORK_SUT}: {', '.join(nodes)}"
