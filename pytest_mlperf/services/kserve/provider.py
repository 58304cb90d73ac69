"""The service ``triton``: Triton and every other server of KServe v2, one or many."""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import partial
from pathlib import Path

from pytest_mlperf.api.embedded_server import ExportedModel
from pytest_mlperf.api.embedded_server import ServerRecipe
from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.request_batch import send_all
from pytest_mlperf.api.service import Listener
from pytest_mlperf.api.service import Requests
from pytest_mlperf.api.service import Service
from pytest_mlperf.api.service import ServiceProvider
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.api.workload import PromptWorkload
from pytest_mlperf.api.workload import RunsModel
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import Workload
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.services.http import http1
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.http.client import HttpClient
from pytest_mlperf.services.http.connection import Endpoint
from pytest_mlperf.services.kserve import preflight
from pytest_mlperf.services.kserve.deployment import OPTIONS
from pytest_mlperf.services.kserve.deployment import SHARED_MEMORY
from pytest_mlperf.services.kserve.deployment import Deployment
from pytest_mlperf.services.kserve.deployment import check_shared_memory
from pytest_mlperf.services.kserve.deployment import read_deployment
from pytest_mlperf.services.kserve.repository import export_model
from pytest_mlperf.services.kserve.requests import TensorRequests
from pytest_mlperf.services.kserve.server_api import HttpServerApi
from pytest_mlperf.services.kserve.server_api import ServerApi
from pytest_mlperf.services.kserve.server_api import ServerRefusal
from pytest_mlperf.services.kserve.statistics import ServerStatistics
from pytest_mlperf.services.kserve.statistics import read_statistics
from pytest_mlperf.services.kserve.tensors import AnswerLayouts
from pytest_mlperf.services.kserve.tensors import OutputReader
from pytest_mlperf.services.kserve.tensors import ReceiveTimes
from pytest_mlperf.services.kserve.timed_client import TimedClient

TRIAL_S = 120.0
"""How long a test request may take: the first one may compile kernels."""


@dataclass(frozen=True, slots=True)
class TritonService:
    """A ``ServiceProvider`` that ``StartsEmbeddedServer``."""

    offers: frozenset[str] = frozenset({"tensors"})
    serves: frozenset[str] = frozenset({"embedded", "official", "generated"})
    embedded_precisions: tuple[str, ...] = ("fp32", "fp16", "int8")
    options: Mapping[str, str] = field(default_factory=lambda: OPTIONS)

    def check_options(self, given: Mapping[str, str]) -> None:
        """Raise ``ValueError`` for a value that is none."""
        read_deployment(given, os.environ)

    def unavailable(self, target: ServiceTarget) -> str | None:
        """Return what a server of the wheel lacks.

        Raises ``RunRefused`` for a URL at which nobody answers.
        """
        if not target.urls:
            from pytest_mlperf.services.local import triton

            return triton.unavailable()
        for url in target.urls:
            open_api(url, target).is_ready()
        return None

    def check(
        self,
        target: ServiceTarget,
        workload: PromptWorkload | TensorWorkload,
        beat: Callable[[], None],
    ) -> tuple[ServiceTarget, Mapping[str, str]]:
        """Ask every server for its health, its model, and one answer."""
        tensors = tensors_of(workload)
        facts: dict[str, str] = {}
        if not all(
            preflight.has_binary_tensors(open_api(url, target)) for url in target.urls
        ):
            target = replace(target, fields={preflight.BINARY: False})
            facts["tensors"] = "as JSON: a server lacks the binary extension"
        requests = self.requests(target, tensors)
        if requests.apis:
            facts["shared memory"] = "system: inputs; outputs come in the answers"
        requests.load([0])
        try:
            for url in target.urls:
                api = open_api(url, target)
                model = preflight.choose_model(api, target.model)
                target = replace(target, model=model)
                facts |= preflight.check_model(
                    api, model, requests.gather(0), requests.outputs
                )
                beat()
            for url in target.urls:
                one = replace(target, urls=(url,), concurrency=1)
                self._try_request(one, requests, tensors, beat)
        finally:
            requests.unload([0])
        return target, facts

    def _try_request(
        self,
        target: ServiceTarget,
        requests: TensorRequests,
        workload: TensorWorkload,
        beat: Callable[[], None],
    ) -> None:
        """Raise ``RunRefused`` where a test request has no answer that is usable."""
        patient = replace(target, timeout_s=min(TRIAL_S, target.timeout_s))
        try:
            (answer,) = send_all(
                partial(self.open, patient, requests),
                [0], outstanding=1, count=1, beat=beat,
            ).answers  # fmt: skip
            workload.respond(answer.outputs or (), requests.samples_of(0))
        except RequestFailed as error:
            raise RunRefused(
                f"the test request failed: {error}; look into the server's log"
            ) from None
        except ValueError as error:
            raise RunRefused(
                f"{target.urls[0]}: the model {target.model!r} answers the test "
                f"request, but {error}"
            ) from None

    def embedded_server(
        self,
        workload: Workload,
        precision: str,
        cache: Path,
        cpus: Sequence[int],
        options: Mapping[str, str],
    ) -> ServerRecipe:
        """Return how the wheel's tritonserver serves the workload's model."""
        # Imported here: most sessions attach to a server, or use an engine.
        from pytest_mlperf.services.local.triton import make_server_recipe

        return make_server_recipe(tensors_of(workload), precision, cache, cpus, options)

    def export_model(
        self,
        workload: TensorWorkload,
        name: str,
        precision: str,
        options: Mapping[str, str],
        folder: Path,
    ) -> ExportedModel:
        """Write a model repository for a stock server, and verify the model."""
        default = Deployment(backend="onnxruntime")
        deployment = read_deployment(options, os.environ, default)
        return export_model(tensors_of(workload), name, precision, deployment, folder)

    def batched_requests(
        self,
        target: ServiceTarget,
        workload: PromptWorkload | TensorWorkload,
        size: int,
    ) -> TensorRequests:
        """Return the workload's requests of ``size`` samples each."""
        return replace(self.requests(target, workload), size=size)

    def requests(
        self,
        target: ServiceTarget,
        workload: PromptWorkload | TensorWorkload,
    ) -> TensorRequests:
        """Return the workload's requests, one a sample."""
        tensors = tensors_of(workload)
        outputs = tensors.model.outputs if tensors.model else ()
        shares = check_shared_memory(target.options.get(SHARED_MEMORY, "none"))
        return TensorRequests(
            tensors.dataset,
            tuple(outputs),
            has_rows_of_samples=not (tensors.model and tensors.model.embedding),
            is_binary=target.fields.get(preflight.BINARY, True),
            apis=[open_api(url, target) for url in target.urls] if shares else (),
        )

    def open(
        self, target: ServiceTarget, requests: Requests, listener: Listener
    ) -> Service:
        """Return the client of all servers; they share the target's concurrency."""
        assert isinstance(requests, TensorRequests), "made by requests()"
        times = ReceiveTimes()
        return TimedClient(
            partial(open_http, target, requests, times),
            listener,
            times,
            partial(sum_statistics, target),
        )


def open_http(
    target: ServiceTarget,
    requests: TensorRequests,
    times: ReceiveTimes,
    listener: Listener,
) -> HttpClient:
    """Return the client over HTTP."""
    limit = max(1, -(-target.concurrency // len(target.urls)))
    endpoints = []
    for url in target.urls:
        address = parse_address(url, target)
        path = f"{address.base}/v2/models/{target.model}/infer"
        head = http1.format_head("POST", path, address.authority, target.headers)
        endpoints.append(Endpoint(address, head, limit))
    layouts = AnswerLayouts(
        requests.outputs, requests.answer_rows, is_binary=requests.is_binary
    )
    return HttpClient(
        endpoints,
        requests.bodies,
        lambda _: OutputReader(layouts, times),
        listener,
        balance=target.balance,
        whole=True,
        timeout_s=target.timeout_s,
        stall_s=target.stall_s,
    )


def open_api(url: str, target: ServiceTarget) -> ServerApi:
    """Return what asks a server about itself."""
    return HttpServerApi(parse_address(url, target), target.headers)


def sum_statistics(target: ServiceTarget) -> ServerStatistics | None:
    """Return the model's counters over all servers; None where one keeps none."""
    total = ServerStatistics()
    for url in target.urls:
        try:
            found = open_api(url, target).read_statistics(target.model)
            total += read_statistics(found)
        except (ServerRefusal, RunRefused, ValueError):
            return None
    return total


def parse_address(url: str, target: ServiceTarget) -> Address:
    """Return a server's address; raises ``RunRefused`` for a malformed URL."""
    try:
        return Address.parse(url, target.ca_file)
    except ValueError as error:
        raise RunRefused(f"--mlperf-triton: {error}") from None


def tensors_of(workload: object) -> TensorWorkload:
    """Return a workload that has tensors; raises ``RunRefused`` for another one."""
    title = getattr(workload, "title", workload)
    if isinstance(workload, RunsModel):
        raise RunRefused(
            f"{title}: a sample takes several runs of its model, but a server "
            "is asked once a sample; choose an engine with --mlperf-engine"
        )
    if isinstance(workload, TensorWorkload):
        return workload
    raise RunRefused(
        f"{title} has prompts, but KServe v2 servers "
        "are asked with tensors here; choose another provider with --mlperf-engine"
    )


TRITON: ServiceProvider = TritonService()
