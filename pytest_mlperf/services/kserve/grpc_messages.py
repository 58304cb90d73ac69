"""The open inference protocol (KServe v2) over gRPC, without sockets.

A request is made of parts that are written once: the model's name, the tensors, and in
a stream an id. Protocol buffers that stand behind one another are one message, so that
sending joins bytes and serializes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.services.kserve.tensors import TYPES
from pytest_mlperf.services.kserve.tensors import Layout
from pytest_mlperf.services.kserve.tensors import Rooms
from pytest_mlperf.services.kserve.tensors import check_layout
from pytest_mlperf.services.kserve.tensors import check_output
from pytest_mlperf.services.kserve.tensors import datatype_of
from pytest_mlperf.services.kserve.tensors import read_room

CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents",
    "INT32": "int_contents", "INT64": "int64_contents", "UINT8": "uint_contents",
    "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip
"""Type -> the field that has its numbers where an answer has no raw bytes."""


def missing_packages() -> str | None:
    """Return which packages gRPC needs and how to get them; None: they are here."""
    try:
        load_messages()
    except RequirementMissing as missing:
        return str(missing)
    return None


def load_messages() -> Any:
    """Return the protocol's messages; raises ``RequirementMissing``."""
    try:
        from tritonclient.grpc import service_pb2
    except ImportError as error:
        raise RequirementMissing(
            f"gRPC needs tritonclient and grpcio ({error}): "
            "pip install 'pytest-mlperf[triton]', or name the server's HTTP port"
        ) from None
    return service_pb2


def encode_model(model: str) -> bytes:
    """Return the part of a request that names the model."""
    found: bytes = (
        load_messages().ModelInferRequest(model_name=model).SerializeToString()
    )
    return found


def encode_id(number: int) -> bytes:
    """Return the part of a request that is its id, by which a stream's answer is told
    from others: field 3, a string.
    """
    text = str(number).encode()
    return b"\x1a" + bytes([len(text)]) + text


def encode_grpc_request(
    batch: Batch,
    outputs: Sequence[str],
    parts: Mapping[str, Mapping[str, Any]] | None = None,
    rooms: Mapping[str, Mapping[str, Any]] | None = None,
) -> bytes:
    """Return a request's tensors; arguments are those of ``encode_request``."""
    parts, rooms = parts or {}, rooms or {}
    message = load_messages().ModelInferRequest()
    for name, array in batch.items():
        tensor = message.inputs.add(
            name=name, datatype=datatype_of(array), shape=array.shape
        )
        _set_parameters(tensor, parts.get(name, {}))
        if name not in parts:
            message.raw_input_contents.append(array.tobytes())
    for name in outputs:
        _set_parameters(message.outputs.add(name=name), rooms.get(name, {}))
    data: bytes = message.SerializeToString()
    return data


def _set_parameters(tensor: Any, parameters: Mapping[str, Any]) -> None:
    for key, value in parameters.items():
        kind = "string_param" if isinstance(value, str) else "int64_param"
        setattr(tensor.parameters[key], kind, value)


class AnswerDecoder:
    """Makes arrays of answers."""

    def __init__(
        self,
        outputs: Sequence[str],
        rows: int | None = 1,
        rooms: Mapping[int, Rooms] | None = None,
    ) -> None:
        """``rows``: every output's; None: any number. ``rooms``: request -> where its
        outputs are, if not in the answers.
        """
        messages = load_messages()
        self._parse = messages.ModelInferResponse.FromString
        self._parse_streamed = messages.ModelStreamInferResponse.FromString
        self._outputs, self._rows = tuple(outputs), rows
        self._rooms = {} if rooms is None else rooms

    def decode(self, data: bytes, request: int) -> list[Array]:
        """Return the outputs, in the order that was asked for.

        Raises ``BadAnswer`` for what is no answer, for an output that is missing or
        too much, and for a size that does not fit its shape.
        """
        return self.read_outputs(self._parse_message(self._parse, data), request)

    def decode_streamed(self, data: bytes) -> tuple[str, str, Any]:
        """Return a stream's answer: its id, the server's error, and the message.

        ``read_outputs`` makes arrays of the message.
        """
        message = self._parse_message(self._parse_streamed, data)
        answer = message.infer_response
        return answer.id, message.error_message, answer

    def _parse_message(self, parse: Any, data: bytes) -> Any:
        from google.protobuf.message import DecodeError

        try:
            return parse(data)
        except DecodeError:
            raise BadAnswer(
                f"{len(data):,} bytes, but should be a KServe v2 answer"
            ) from None

    def read_outputs(self, message: Any, request: int) -> list[Array]:
        """Return the outputs of a message; raises ``BadAnswer``."""
        rooms = self._rooms.get(request)
        raw = message.raw_output_contents or [
            read_contents(tensor) for tensor in message.outputs
        ]
        if len(raw) != len(message.outputs):
            raise BadAnswer(
                f"{len(message.outputs)} outputs, but the bytes of {len(raw)}"
            )
        layout: Layout = []
        arrays = {}
        for tensor, data in zip(message.outputs, raw, strict=True):
            name, shape = tensor.name, list(tensor.shape)
            size = len(data)
            if rooms and tensor.datatype in TYPES:
                size = math.prod(shape) * TYPES[tensor.datatype].itemsize
            one = check_output(name, tensor.datatype, shape, size)
            layout.append(one)
            if rooms:
                arrays[name] = read_room(rooms, *one)
            else:
                arrays[name] = np.frombuffer(data, one[1]).reshape(shape)
        check_layout(layout, self._outputs, self._rows)
        return [arrays[name] for name in self._outputs or arrays]


def read_contents(tensor: Any) -> bytes:
    """Return the bytes of an output whose numbers are in typed fields."""
    name = CONTENTS.get(tensor.datatype)
    if name is None:
        return b""
    return np.asarray(getattr(tensor.contents, name), TYPES[tensor.datatype]).tobytes()
