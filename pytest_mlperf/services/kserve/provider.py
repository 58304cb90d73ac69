"""The service ``triton``: Triton and every other server of KServe v2, one or many."""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pytest_mlperf.api.embedded_server import ExportedModel
from pytest_mlperf.api.embedded_server import ServerRecipe
from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.served_model import ServedModel
from pytest_mlperf.api.service import Listener
from pytest_mlperf.api.service import Requests
from pytest_mlperf.api.service import Service
from pytest_mlperf.api.service import ServiceProvider
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.api.workload import PromptWorkload
from pytest_mlperf.api.workload import RunsModel
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import Workload
from pytest_mlperf.config import load_options
from pytest_mlperf.config.option_types import is_grpc
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.services.kserve import client_options
from pytest_mlperf.services.kserve import deployment as deployments
from pytest_mlperf.services.kserve import preflight
from pytest_mlperf.services.kserve.client_options import drop_client_options
from pytest_mlperf.services.kserve.client_options import read_client_options
from pytest_mlperf.services.kserve.cuda_driver import missing_driver
from pytest_mlperf.services.kserve.deployment import Deployment
from pytest_mlperf.services.kserve.deployment import read_deployment
from pytest_mlperf.services.kserve.device_memory import DeviceMemory
from pytest_mlperf.services.kserve.grpc_messages import missing_packages
from pytest_mlperf.services.kserve.repository import export_model
from pytest_mlperf.services.kserve.requests import TensorRequests
from pytest_mlperf.services.kserve.server_api import ServerRefusal
from pytest_mlperf.services.kserve.slot_client import SlotClient
from pytest_mlperf.services.kserve.statistics import ServerStatistics
from pytest_mlperf.services.kserve.statistics import read_statistics
from pytest_mlperf.services.kserve.tensors import ReceiveTimes
from pytest_mlperf.services.kserve.timed_client import TimedClient
from pytest_mlperf.services.kserve.transports import choose_transport
from pytest_mlperf.services.trial_request import send_trial


@dataclass(frozen=True, slots=True)
class TritonService:
    """A ``ServiceProvider`` that ``StartsEmbeddedServer``."""

    offers: frozenset[str] = frozenset({"tensors"})
    serves: frozenset[str] = frozenset({"embedded", "official", "generated"})
    embedded_precisions: tuple[str, ...] = ("fp32", "fp16", "int8")
    options: Mapping[str, str] = field(
        default_factory=lambda: {**client_options.OPTIONS, **deployments.OPTIONS}
    )
    variables: Mapping[str, str] = field(
        default_factory=lambda: {
            **load_options.VARIABLES,
            **deployments.VARIABLES,
            "PRECISION": "precision",
        }
    )

    def check_options(self, given: Mapping[str, str]) -> None:
        """Raise ``ValueError`` for a value that is none."""
        read_client_options(given)
        read_deployment(drop_client_options(given), os.environ)

    def unavailable(self, target: ServiceTarget) -> str | None:
        """Return what a server of the wheel lacks.

        Raises ``RunRefused`` for a URL at which nobody answers.
        """
        asked = read_client_options(target.options)
        if asked.shared_memory == "cuda" and (missing := missing_driver()):
            return missing
        if not target.urls:
            from pytest_mlperf.services.local import triton

            asks_grpc = asked.protocol == "grpc"
            return triton.unavailable() or (missing_packages() if asks_grpc else None)
        transport = choose_transport(target)
        for url in target.urls:
            transport.open_api(url).is_ready()
        return None

    def check(
        self,
        target: ServiceTarget,
        workload: PromptWorkload | TensorWorkload,
        beat: Callable[[], None],
    ) -> tuple[ServiceTarget, Mapping[str, str]]:
        """Ask every server for its health, its model, and one answer."""
        tensors = tensors_of(workload)
        transport = choose_transport(target)
        apis = {url: transport.open_api(url) for url in target.urls}
        facts = {"transport": transport.name}
        has_grpc = any(is_grpc(url) for url in target.urls)
        if not has_grpc and not all(map(preflight.has_binary_tensors, apis.values())):
            target = replace(target, fields={preflight.BINARY: False})
            facts["tensors"] = "as JSON: a server lacks the binary extension"
        first = next(iter(apis.values()))
        target = replace(target, model=preflight.choose_model(first, target.model))
        requests = self.requests(target, tensors)
        facts |= describe_memory(requests)
        if requests.device is not None:
            preflight.check_cuda_memory(list(apis.values()))
        requests.load([0])
        try:
            for api in apis.values():
                model = preflight.choose_model(api, target.model)
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
        try:
            answer = send_trial(self, target, requests, beat)
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

    def ask_names(self, target: ServiceTarget) -> Mapping[str, str]:
        """Return URL -> the name in its server's metadata."""
        transport, names = choose_transport(target), {}
        for url in target.urls:
            with suppress(ServerRefusal):  # it answered, which is what counts
                names[url] = transport.open_api(url).read_name()
            names.setdefault(url, "")
        return names

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

    def serve(
        self, model: ServedModel, host: str, port: int, node: str
    ) -> AbstractContextManager[str]:
        """Serve a built engine over HTTP while the block runs, and give the URL."""
        from pytest_mlperf.services.kserve.model_server import run_server

        return run_server(model, host, port, node)

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
        transport = choose_transport(target)
        asked = read_client_options(target.options)
        shared = asked.shared_memory
        urls = target.urls if shared != "none" else ()
        apis = [transport.open_api(url) for url in urls]
        specs: Sequence[Mapping[str, Any]] = ()
        if apis and outputs and target.fields.get(preflight.BINARY, True):
            with suppress(ServerRefusal):  # the preflight says what is wrong
                metadata = apis[0].read_metadata(target.model)
                specs = [o for o in metadata["outputs"] if o["name"] in outputs]
        return TensorRequests(
            tensors.dataset,
            tuple(outputs),
            has_rows_of_samples=not (tensors.model and tensors.model.embedding),
            length=asked.max_seq_length,
            encode=transport.encode,
            apis=[] if shared == "cuda" else apis,
            specs=specs,
            device=DeviceMemory(apis, specs) if shared == "cuda" else None,
        )

    def open(
        self, target: ServiceTarget, requests: Requests, listener: Listener
    ) -> Service:
        """Return the client of all servers; they share the target's concurrency."""
        assert isinstance(requests, TensorRequests), "made by requests()"
        times = ReceiveTimes()
        transport = choose_transport(target)
        open_client: Callable[[Listener], Service]
        open_client = partial(transport.open_client, requests.to_wire(), times)
        if requests.device is not None:
            open_client = partial(
                SlotClient, requests.device, target.concurrency, open_client
            )
        read = partial(sum_statistics, target)
        return TimedClient(open_client, listener, times, read)


def sum_statistics(target: ServiceTarget) -> ServerStatistics | None:
    """Return the model's counters over all servers; None where one keeps none."""
    transport, total = choose_transport(target), ServerStatistics()
    for url in target.urls:
        try:
            found = transport.open_api(url).read_statistics(target.model)
            total += read_statistics(found)
        except (ServerRefusal, RunRefused, ValueError):
            return None
    return total


def describe_memory(requests: TensorRequests) -> dict[str, str]:
    """Return which shared memory carries the tensors, as a fact; none: it is empty."""
    which = "inputs and outputs" if requests.specs else "inputs"
    if requests.device is not None:
        number = requests.device.driver.device
        return {
            "shared memory": f"cuda: {which}, on GPU {number}; copied there after each "
            "query's issue, and back before its completion"
        }
    return {"shared memory": f"system: {which}"} if requests.apis else {}


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
