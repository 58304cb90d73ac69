"""Channels of gRPC: how one is opened, and what its errors mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_mlperf.core.redaction import cut
from pytest_mlperf.services.http.address import Address

PORTS = {"grpc": 8001, "grpcs": 8001}
"""Scheme -> Triton's usual port."""
SERVICE = "/inference.GRPCInferenceService"
OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A request that failed is a failed run: nothing is sent again.
    ("grpc.enable_retries", 0),
    # As the HTTP client does, which reads no proxy from the environment.
    ("grpc.enable_http_proxy", 0),
    # A server that was started anew at the same port is another one.
    ("grpc.use_local_subchannel_pool", 1),
)
SHOWN_CHARACTERS = 300


def open_channel(package: Any, address: Address, ca_file: str | None) -> Any:
    """Return a channel; ``package`` is ``grpc`` or ``grpc.aio``."""
    import grpc

    target = f"{address.host}:{address.port}"
    if ":" in address.host:
        target = f"[{address.host}]:{address.port}"
    if address.context is None:
        return package.insecure_channel(target, options=OPTIONS)
    roots = Path(ca_file).read_bytes() if ca_file else None
    credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    return package.secure_channel(target, credentials, options=OPTIONS)


def make_metadata(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return headers as gRPC sends them: names in small letters."""
    return tuple((name.lower(), value) for name, value in headers.items())


def describe_error(error: Any) -> str:
    """Return a call's error: gRPC's code and the server's words."""
    return f"gRPC {error.code().name}: {cut(error.details() or '', SHOWN_CHARACTERS)}"
