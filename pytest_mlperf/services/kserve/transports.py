"""The two ways to a KServe v2 server: HTTP with binary tensors, and gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from typing import Protocol

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.service import Listener
from pytest_mlperf.api.service import Service
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.config.option_types import is_grpc
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.services.http import http1
from pytest_mlperf.services.http.address import PORTS
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.http.client import HttpClient
from pytest_mlperf.services.http.connection import Endpoint
from pytest_mlperf.services.kserve import grpc_channel
from pytest_mlperf.services.kserve import preflight
from pytest_mlperf.services.kserve.client_options import read_client_options
from pytest_mlperf.services.kserve.grpc_api import GrpcServerApi
from pytest_mlperf.services.kserve.grpc_calls import GrpcEndpoint
from pytest_mlperf.services.kserve.grpc_client import GrpcClient
from pytest_mlperf.services.kserve.grpc_messages import AnswerDecoder
from pytest_mlperf.services.kserve.grpc_messages import encode_grpc_request
from pytest_mlperf.services.kserve.grpc_messages import encode_model
from pytest_mlperf.services.kserve.grpc_messages import missing_packages
from pytest_mlperf.services.kserve.requests import WireRequests
from pytest_mlperf.services.kserve.server_api import HttpServerApi
from pytest_mlperf.services.kserve.server_api import ServerApi
from pytest_mlperf.services.kserve.tensors import AnswerLayouts
from pytest_mlperf.services.kserve.tensors import OutputReader
from pytest_mlperf.services.kserve.tensors import ReceiveTimes
from pytest_mlperf.services.kserve.tensors import encode_json_request
from pytest_mlperf.services.kserve.tensors import encode_request

Parts = Mapping[str, Mapping[str, Any]]


class Transport(Protocol):
    """How one target's servers are asked."""

    @property
    def name(self) -> str:
        """For the facts: ``gRPC, one stream a server``."""

    def open_api(self, url: str) -> ServerApi:
        """Return what asks a server about itself."""

    def encode(
        self,
        batch: Batch,
        outputs: tuple[str, ...],
        parts: Parts | None = None,
        rooms: Parts | None = None,
    ) -> bytes:
        """Return a request without what is the same in all."""

    def open_client(
        self, requests: WireRequests, times: ReceiveTimes, listener: Listener
    ) -> Service:
        """Return the client of all servers; they share the target's concurrency."""


def choose_transport(target: ServiceTarget) -> Transport:
    """Return how a target's URLs are asked.

    Raises ``RequirementMissing`` where gRPC lacks its packages.
    """
    if not any(is_grpc(url) for url in target.urls):
        return HttpTransport(target)
    if missing := missing_packages():
        raise RequirementMissing(missing)
    return GrpcTransport(target)


@dataclass(frozen=True, slots=True)
class HttpTransport:
    """A ``Transport`` over HTTP, in JSON where a server has no binary tensors."""

    target: ServiceTarget

    @property
    def name(self) -> str:
        return "HTTP"

    @property
    def _is_binary(self) -> bool:
        return bool(self.target.fields.get(preflight.BINARY, True))

    def open_api(self, url: str) -> ServerApi:
        return HttpServerApi(
            parse_address(url, self.target, PORTS), self.target.headers
        )

    def encode(
        self,
        batch: Batch,
        outputs: tuple[str, ...],
        parts: Parts | None = None,
        rooms: Parts | None = None,
    ) -> bytes:
        if self._is_binary:
            return encode_request(batch, outputs, parts, rooms)
        return encode_json_request(batch, outputs)

    def open_client(
        self, requests: WireRequests, times: ReceiveTimes, listener: Listener
    ) -> Service:
        target = self.target
        endpoints = []
        for url in target.urls:
            address = parse_address(url, target, PORTS)
            path = f"{address.base}/v2/models/{target.model}/infer"
            head = http1.format_head("POST", path, address.authority, target.headers)
            endpoints.append(Endpoint(address, head, target.concurrency_each))
        layouts = AnswerLayouts(
            requests.outputs, requests.answer_rows, is_binary=self._is_binary
        )
        return HttpClient(
            endpoints,
            requests.bodies,
            lambda sample: OutputReader(layouts, times, requests.rooms.get(sample)),
            listener,
            balance=target.balance,
            whole=True,
            timeout_s=target.timeout_s,
            stall_s=target.stall_s,
        )


@dataclass(frozen=True, slots=True)
class GrpcTransport:
    """A ``Transport`` over gRPC: a call a request, or one stream a server."""

    target: ServiceTarget

    @property
    def _is_streaming(self) -> bool:
        return read_client_options(self.target.options).streaming

    @property
    def name(self) -> str:
        return "gRPC, one stream a server" if self._is_streaming else "gRPC"

    def open_api(self, url: str) -> ServerApi:
        target = self.target
        address = parse_address(url, target, grpc_channel.PORTS)
        return GrpcServerApi(address, target.headers, target.ca_file)

    def encode(
        self,
        batch: Batch,
        outputs: tuple[str, ...],
        parts: Parts | None = None,
        rooms: Parts | None = None,
    ) -> bytes:
        return encode_grpc_request(batch, outputs, parts, rooms)

    def open_client(
        self, requests: WireRequests, times: ReceiveTimes, listener: Listener
    ) -> Service:
        target = self.target
        head = encode_model(target.model)
        endpoints = [
            GrpcEndpoint(
                parse_address(url, target, grpc_channel.PORTS),
                target.concurrency_each, head,
                headers=target.headers, ca_file=target.ca_file,
            )
            for url in target.urls
        ]  # fmt: skip
        return GrpcClient(
            endpoints,
            requests.bodies,
            AnswerDecoder(requests.outputs, requests.answer_rows, requests.rooms),
            times,
            listener,
            is_streaming=self._is_streaming,
            balance=target.balance,
            timeout_s=target.timeout_s,
        )


def parse_address(url: str, target: ServiceTarget, ports: Mapping[str, int]) -> Address:
    """Return a server's address; raises ``RunRefused`` for a malformed URL."""
    try:
        return Address.parse(url, target.ca_file, ports)
    except ValueError as error:
        raise RunRefused(f"--mlperf-triton: {error}") from None
