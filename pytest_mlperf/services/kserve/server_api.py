"""What a KServe v2 server says of itself: health, models, counters, shared memory.

Blocking, outside the timed run.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from typing import Protocol

from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.redaction import cut
from pytest_mlperf.services.http import http1
from pytest_mlperf.services.http.address import Address

TIMEOUT_S = 30.0
OK = 200
NO_KEY = (401, 403)
SHOWN_CHARACTERS = 300
READ_BYTES = 1 << 16


class ServerRefusal(Exception):
    """The server answered with an error; the text is its own."""


class ServerApi(Protocol):
    """One server, over HTTP or gRPC. Methods raise ``RunRefused`` where nobody answers
    and ``ServerRefusal`` where the server refuses; documents are JSON values.
    """

    @property
    def url(self) -> str: ...

    def is_ready(self) -> bool: ...

    def is_model_ready(self, model: str) -> bool: ...

    def read_extensions(self) -> list[str] | None:
        """Return the names of the protocol's extensions; None where it lists none."""

    def read_name(self) -> str:
        """Return what the server calls itself; empty where it does not say."""

    def read_index(self) -> list[dict[str, Any]]:
        """Return name, version and state of every model in the repository."""

    def read_metadata(self, model: str) -> dict[str, Any]:
        """Return names, types and shapes of a model's inputs and outputs."""

    def read_config(self, model: str) -> dict[str, Any]:
        """Return a model's configuration, which only Triton has."""

    def read_statistics(self, model: str) -> dict[str, Any]:
        """Return a model's counters, an extension."""

    def register_region(self, name: str, key: str, size: int) -> None:
        """Have the server map ``size`` bytes of POSIX shared memory."""

    def unregister_region(self, name: str) -> None: ...

    def register_cuda_region(
        self, name: str, handle: bytes, device: int, size: int
    ) -> None:
        """Have the server map ``size`` bytes of a GPU's memory by CUDA's handle."""

    def read_cuda_regions(self) -> list[str]:
        """Return the names of the GPU regions that the server has mapped."""

    def unregister_cuda_region(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class HttpServerApi:
    """A ``ServerApi`` over HTTP."""

    address: Address
    headers: Mapping[str, str]

    @property
    def url(self) -> str:
        return self.address.url

    def is_ready(self) -> bool:
        status, _ = self._ask("GET", "/v2/health/ready")
        return status == OK

    def is_model_ready(self, model: str) -> bool:
        status, _ = self._ask("GET", f"/v2/models/{model}/ready")
        return status == OK

    def read_extensions(self) -> list[str] | None:
        try:
            found = self._read_object("GET", "/v2").get("extensions")
        except ServerRefusal:
            return None
        return [str(one) for one in found] if isinstance(found, list) else None

    def read_name(self) -> str:
        return str(self._read_object("GET", "/v2").get("name", ""))

    def read_index(self) -> list[dict[str, Any]]:
        found = self._read("POST", "/v2/repository/index", {})
        return found if isinstance(found, list) else []

    def read_metadata(self, model: str) -> dict[str, Any]:
        return self._read_object("GET", f"/v2/models/{model}")

    def read_config(self, model: str) -> dict[str, Any]:
        return self._read_object("GET", f"/v2/models/{model}/config")

    def read_statistics(self, model: str) -> dict[str, Any]:
        return self._read_object("GET", f"/v2/models/{model}/stats")

    def register_region(self, name: str, key: str, size: int) -> None:
        path = f"/v2/systemsharedmemory/region/{name}/register"
        self._read("POST", path, {"key": key, "offset": 0, "byte_size": size})

    def read_regions(self) -> list[dict[str, Any]]:
        """Return name, key and size of the regions that the server has mapped."""
        found = self._read("GET", "/v2/systemsharedmemory/status")
        return found if isinstance(found, list) else []

    def unregister_region(self, name: str) -> None:
        self._read("POST", f"/v2/systemsharedmemory/region/{name}/unregister", {})

    def register_cuda_region(
        self, name: str, handle: bytes, device: int, size: int
    ) -> None:
        path = f"/v2/cudasharedmemory/region/{name}/register"
        raw = {"b64": base64.b64encode(handle).decode()}
        document = {"raw_handle": raw, "device_id": device, "byte_size": size}
        self._read("POST", path, document)

    def read_cuda_regions(self) -> list[str]:
        found = self._read("GET", "/v2/cudasharedmemory/status")
        return [str(one["name"]) for one in found] if isinstance(found, list) else []

    def unregister_cuda_region(self, name: str) -> None:
        self._read("POST", f"/v2/cudasharedmemory/region/{name}/unregister", {})

    def _read_object(self, method: str, path: str) -> dict[str, Any]:
        found = self._read(method, path)
        if not isinstance(found, dict):
            raise ServerRefusal(f"{cut(str(found), SHOWN_CHARACTERS)} for {path}")
        return found

    def _read(self, method: str, path: str, document: Any = None) -> Any:
        status, body = self._ask(method, path, document)
        try:
            found = json.loads(body) if body else {}
        except (ValueError, RecursionError):
            found = cut(body, SHOWN_CHARACTERS)
        if status != OK:
            said = found.get("error", found) if isinstance(found, dict) else found
            raise ServerRefusal(f"HTTP {status}: {said}")
        return found

    def _ask(self, method: str, path: str, document: Any = None) -> tuple[int, bytes]:
        address = self.address
        where = f"{address.url}{path}"
        body = b"\r\n"
        if document is not None:
            body = http1.format_body(json.dumps(document).encode())
        fields = {**self.headers, "Connection": "close"}
        target = f"{address.base}{path}"
        head = http1.format_head(method, target, address.authority, fields)
        try:
            status, answer = self._exchange(head + body)
        except ssl.SSLCertVerificationError as error:
            raise RunRefused(
                f"{where}: the certificate is not trusted ({error.verify_message}); "
                "name the file of the authority that signed it with "
                "--mlperf-endpoint-ca FILE"
            ) from None
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            raise RunRefused(
                f"{where}: nobody answers ({why}); start the server, or correct the "
                "URL (--mlperf-triton)"
            ) from None
        except http1.BadResponse as error:
            raise RunRefused(
                f"{where}: found no HTTP server ({error}), but should be a KServe v2 "
                "server; name the port of its HTTP service"
            ) from None
        if status in NO_KEY:
            raise RunRefused(
                f"{where}: HTTP {status}: the server wants another key; name the "
                "environment variable that holds it with --mlperf-endpoint-token-env"
            )
        return status, answer

    def _exchange(self, request: bytes) -> tuple[int, bytes]:
        response, parts = http1.ResponseReader(), []
        with self.address.connect(TIMEOUT_S) as connected:
            connected.settimeout(TIMEOUT_S)
            connected.sendall(request)
            while not response.ended:
                data = connected.recv(READ_BYTES)
                if not data:
                    if response.close():
                        break
                    raise http1.BadResponse("the connection closed before an answer")
                parts.append(response.feed(data))
        return response.status, b"".join(parts)
