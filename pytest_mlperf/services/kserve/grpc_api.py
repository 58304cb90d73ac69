"""What a KServe v2 server says of itself over gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.kserve.grpc_channel import describe_error
from pytest_mlperf.services.kserve.grpc_channel import make_metadata
from pytest_mlperf.services.kserve.grpc_channel import open_channel
from pytest_mlperf.services.kserve.grpc_messages import load_messages
from pytest_mlperf.services.kserve.server_api import TIMEOUT_S
from pytest_mlperf.services.kserve.server_api import ServerRefusal

ABSENT = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
NO_KEY = ("UNAUTHENTICATED", "PERMISSION_DENIED")


@dataclass(frozen=True, slots=True)
class GrpcServerApi:
    """A ``ServerApi`` over gRPC."""

    address: Address
    headers: Mapping[str, str]
    ca_file: str | None = None

    @property
    def url(self) -> str:
        return self.address.url

    def is_ready(self) -> bool:
        return bool(self._ask("ServerReady").get("ready"))

    def is_model_ready(self, model: str) -> bool:
        try:
            return bool(self._ask("ModelReady", name=model).get("ready"))
        except ServerRefusal:
            return False

    def read_extensions(self) -> list[str] | None:
        try:
            return [str(one) for one in self._ask("ServerMetadata")["extensions"]]
        except ServerRefusal:
            return None

    def read_name(self) -> str:
        return str(self._ask("ServerMetadata").get("name", ""))

    def read_index(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("RepositoryIndex")["models"]
        return found

    def read_metadata(self, model: str) -> dict[str, Any]:
        return self._ask("ModelMetadata", name=model)

    def read_config(self, model: str) -> dict[str, Any]:
        found: dict[str, Any] = self._ask("ModelConfig", name=model).get("config", {})
        # Messages that were not set are left out, lists that were not are empty.
        return {name: value for name, value in found.items() if value not in ([], {})}

    def read_statistics(self, model: str) -> dict[str, Any]:
        return self._ask("ModelStatistics", name=model)

    def register_region(self, name: str, key: str, size: int) -> None:
        self._ask("SystemSharedMemoryRegister", name=name, key=key, byte_size=size)

    def unregister_region(self, name: str) -> None:
        self._ask("SystemSharedMemoryUnregister", name=name)

    def register_cuda_region(
        self, name: str, handle: bytes, device: int, size: int
    ) -> None:
        self._ask(
            "CudaSharedMemoryRegister",
            name=name, raw_handle=handle, device_id=device, byte_size=size,
        )  # fmt: skip

    def read_cuda_regions(self) -> list[str]:
        return [*self._ask("CudaSharedMemoryStatus")["regions"]]

    def unregister_cuda_region(self, name: str) -> None:
        self._ask("CudaSharedMemoryUnregister", name=name)

    def _ask(self, method: str, **fields: Any) -> dict[str, Any]:
        """Return an answer as JSON's values; whole numbers of 64 bits are texts."""
        messages = load_messages()
        # Imported here: only who asks by gRPC needs it.
        import grpc
        from google.protobuf.json_format import MessageToDict
        from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

        request = getattr(messages, f"{method}Request")(**fields)
        with open_channel(grpc, self.address, self.ca_file) as channel:
            call = getattr(GRPCInferenceServiceStub(channel), method)
            try:
                answer = call(
                    request, timeout=TIMEOUT_S, metadata=make_metadata(self.headers)
                )
            except grpc.RpcError as error:
                raise self._explain(error) from None
        made: dict[str, Any] = MessageToDict(
            answer,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        return made

    def _explain(self, error: Any) -> Exception:
        code, text = error.code().name, describe_error(error)
        if code in NO_KEY:
            return RunRefused(
                f"{self.url}: {text}: the server wants another key; name the "
                "environment variable that holds it with --mlperf-endpoint-token-env"
            )
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return RunRefused(
                f"{self.url}: the certificate is not trusted ({text}); name the file "
                "of the authority that signed it with --mlperf-endpoint-ca FILE"
            )
        if code in ABSENT:
            return RunRefused(
                f"{self.url}: no gRPC server answers ({text}); start the server, or "
                "correct the URL (--mlperf-triton): it names the port of the server's "
                "gRPC service, 8001 in Triton"
            )
        return ServerRefusal(text)
