"""The open inference protocol (KServe v2) over HTTP, without sockets.

A request is a JSON head and, behind it, the arrays' bytes in the head's order (the
protocol's binary extension). An answer has the same form.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.core.redaction import cut
from pytest_mlperf.services.http import http1

DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32",
    "uint64": "UINT64", "int8": "INT8", "int16": "INT16", "int32": "INT32",
    "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip
"""NumPy's name of a type -> the protocol's."""
TYPES = {datatype: np.dtype(name) for name, datatype in DATATYPES.items()}
"""The protocol's name of a type -> NumPy's type."""
HEAD_LENGTH = "Inference-Header-Content-Length"
SHOWN_CHARACTERS = 120
MOST_LAYOUTS = 1024
"""Heads of answers that are remembered: sequences of many lengths have many."""


def datatype_of(array: Array) -> str:
    """Return the protocol's name of an array's type; ``ValueError`` for none."""
    name = str(array.dtype)
    if name not in DATATYPES:
        raise ValueError(
            f"an array of {name}, but KServe v2 has {', '.join(DATATYPES.values())}"
        )
    return DATATYPES[name]


def encode_request(
    batch: Batch,
    outputs: Sequence[str],
    parts: Mapping[str, Mapping[str, Any]] | None = None,
    rooms: Mapping[str, Mapping[str, Any]] | None = None,
) -> bytes:
    """Return what follows a request's head of HTTP: headers of the body and the body.

    ``outputs``: names in the order in which the arrays are to come back; empty: the
    model's own. ``parts``: input -> parameters that say where in shared memory it is;
    such an input's bytes are left out. ``rooms``: the same of the outputs.
    """
    parts, rooms = parts or {}, rooms or {}
    inputs = [
        {
            "name": name,
            "shape": array.shape,
            "datatype": datatype_of(array),
            "parameters": parts.get(name, {"binary_data_size": array.nbytes}),
        }
        for name, array in batch.items()
    ]
    document: dict[str, Any] = {"inputs": inputs}
    if outputs:
        binary = {"binary_data": True}
        document["outputs"] = [
            {"name": n, "parameters": rooms.get(n, binary)} for n in outputs
        ]
    else:
        document["parameters"] = {"binary_data_output": True}
    head = json.dumps(document, separators=(",", ":")).encode()
    data = [array.tobytes() for name, array in batch.items() if name not in parts]
    size = len(head) + sum(map(len, data))
    fields = (
        f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n"
        f"{HEAD_LENGTH}: {len(head)}\r\n\r\n"
    )
    return b"".join([fields.encode(), head, *data])


def encode_json_request(batch: Batch, outputs: Sequence[str]) -> bytes:
    """Return the same without the binary extension: numbers as text, far slower."""
    inputs = [
        {
            "name": name,
            "shape": array.shape,
            "datatype": datatype_of(array),
            "data": array.ravel().tolist(),
        }
        for name, array in batch.items()
    ]
    document: dict[str, Any] = {"inputs": inputs}
    if outputs:
        document["outputs"] = [{"name": name} for name in outputs]
    return http1.format_body(json.dumps(document, separators=(",", ":")).encode())


Layout = list[tuple[str, "np.dtype[Any]", list[int], int]]
"""Name, type, shape and bytes of every output, in the order of the body."""


Rooms = Mapping[str, "memoryview[Any]"]
"""Output -> the shared memory that the server writes it to."""


def read_room(
    rooms: Rooms, name: str, dtype: np.dtype[Any], shape: list[int], size: int
) -> Array:
    """Return a copy of an output of ``size`` bytes; raises ``BadAnswer``."""
    room = rooms[name]  # once: of a GPU's memory this copies it
    if size > len(room):
        raise BadAnswer(
            f"output {name} of {size} bytes, but its room in shared memory has "
            f"{len(room)}"
        )
    flat = np.frombuffer(room, dtype, size // dtype.itemsize)
    return flat.reshape(shape).copy()


class AnswerLayouts:
    """Remembers where in a body the arrays are: most answers have the same head.

    The head is a JSON object, which says itself where it ends.
    """

    def __init__(
        self,
        outputs: Sequence[str],
        rows: int | None = 1,
        *,
        is_binary: bool = True,
    ) -> None:
        """``rows``: samples of a request, which every output's first axis has; None
        where the workload alone knows, because a sample has several rows.

        ``is_binary``: the server has the binary extension.
        """
        self._outputs, self._rows = tuple(outputs), rows
        self._is_binary = is_binary
        self._known: dict[int, tuple[bytes, Layout]] = {}
        """Length of a body -> its head, and what that says."""

    def decode(self, body: bytes, rooms: Rooms | None = None) -> list[Array]:
        """Return the outputs, in the order that was asked for.

        ``rooms``: where they are, if not in the body. Raises ``BadAnswer`` for a
        malformed body, for an output that is missing or too much, and for a size that
        does not fit its shape.
        """
        if not self._is_binary:
            body = pack_json(body)
        head, layout = self._known.get(len(body), (b"", []))
        if not head or not body.startswith(head):
            head, layout = self._parse(body, has_rooms=bool(rooms))
            if len(self._known) < MOST_LAYOUTS:
                self._known[len(body)] = head, layout
        arrays, at = {}, len(head)
        for name, dtype, shape, size in layout:
            if rooms:
                arrays[name] = read_room(rooms, name, dtype, shape, size)
                continue
            flat = np.frombuffer(body, dtype, size // dtype.itemsize, at)
            arrays[name] = flat.reshape(shape)
            at += size
        return [arrays[name] for name in self._outputs or arrays]

    def _parse(self, body: bytes, *, has_rooms: bool) -> tuple[bytes, Layout]:
        # Latin-1 has a character for every byte, so that places are the same.
        text = body.decode("latin-1")
        try:
            _, end = json.JSONDecoder().raw_decode(text)
            layout = read_layout(json.loads(body[:end]), has_rooms=has_rooms)
        except (ValueError, RecursionError, UnicodeDecodeError):
            shown = cut(body, SHOWN_CHARACTERS)
            raise BadAnswer(
                f"{shown!r}, but should be a KServe v2 answer: a JSON object and the "
                "outputs' bytes"
            ) from None
        check_layout(layout, self._outputs, self._rows)
        size = 0 if has_rooms else sum(bytes_ for *_, bytes_ in layout)
        if end + size != len(body):
            raise BadAnswer(
                f"{len(body) - end} bytes of outputs, but their head says {size}"
            )
        return body[:end], layout


def pack_json(body: bytes) -> bytes:
    """Return an answer whose numbers are text as the binary extension would have it.

    What is no such answer is returned as it is; ``AnswerLayouts`` says what is wrong.
    """
    try:
        document = json.loads(body)
        parts = []
        for output in document["outputs"]:
            dtype = TYPES[output["datatype"]]
            parts.append(np.asarray(output.pop("data"), dtype).tobytes())
            output["parameters"] = {"binary_data_size": len(parts[-1])}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return body
    return json.dumps(document).encode() + b"".join(parts)


def read_layout(document: Any, *, has_rooms: bool = False) -> Layout:
    """Return what an answer's head says of its outputs; raises ``BadAnswer``.

    ``has_rooms``: their bytes are in shared memory.
    """
    outputs = document.get("outputs") if isinstance(document, dict) else None
    if not isinstance(outputs, list) or not outputs:
        problem = "an answer without outputs"
        if isinstance(document, dict) and "error" in document:
            problem = f"the error {cut(str(document['error']), SHOWN_CHARACTERS)!r}"
        raise BadAnswer(f"{problem}, but should be the model's arrays")
    return [_read_output(one, has_rooms=has_rooms) for one in outputs]


def check_layout(layout: Layout, outputs: Sequence[str], rows: int | None) -> None:
    """Raise ``BadAnswer`` where an output is missing or has not as many rows."""
    names = [name for name, *_ in layout]
    if missing := [name for name in outputs if name not in names]:
        raise BadAnswer(f"outputs {names}, but should also have {', '.join(missing)}")
    for name, _, shape, _ in layout:
        if rows is not None and shape[:1] != [rows]:
            raise BadAnswer(
                f"output {name} of shape {shape}, but should have {rows} "
                "rows: one for each sample of the request"
            )


def _read_output(
    output: Any, *, has_rooms: bool
) -> tuple[str, np.dtype[Any], list[int], int]:
    try:
        name, datatype = str(output["name"]), str(output["datatype"])
        shape = [int(size) for size in output["shape"]]
        size = output.get("parameters", {}).get("binary_data_size")
    except (TypeError, KeyError, ValueError, AttributeError):
        raise BadAnswer(
            f"the output {cut(str(output), SHOWN_CHARACTERS)}, but should have name, "
            "datatype and shape"
        ) from None
    if has_rooms and datatype in TYPES:
        size = math.prod(shape) * TYPES[datatype].itemsize
    if size is None:
        raise BadAnswer(
            f"output {name} as JSON, but binary was asked for; use a server with the "
            "binary tensor data extension"
        )
    return check_output(name, datatype, shape, size)


def check_output(
    name: str, datatype: str, shape: list[int], size: int
) -> tuple[str, np.dtype[Any], list[int], int]:
    """Return where an output lies; raises ``BadAnswer`` for bytes that do not fit."""
    if datatype not in TYPES:
        raise BadAnswer(
            f"output {name} of {datatype}, but should be one of {', '.join(TYPES)}"
        )
    need = math.prod(shape) * TYPES[datatype].itemsize
    if size != need or min(shape, default=1) < 0:
        raise BadAnswer(
            f"output {name} of {size} bytes, but {datatype} {shape} has {need}"
        )
    return name, TYPES[datatype], shape, need


class ReceiveTimes:
    """What readers spend on answers: sums over requests, in seconds."""

    __slots__ = ("arrive_s", "decode_s")

    def __init__(self) -> None:
        self.arrive_s = self.decode_s = 0.0


class OutputReader:
    """Reads one answer: an ``AnswerReader`` whose answer has no first token."""

    __slots__ = ("_begun_s", "_last_s", "_layouts", "_parts", "_rooms", "_times")

    def __init__(
        self, layouts: AnswerLayouts, times: ReceiveTimes, rooms: Rooms | None = None
    ) -> None:
        self._layouts, self._times, self._rooms = layouts, times, rooms
        self._parts: list[bytes] = []
        self._begun_s = self._last_s = 0.0

    def feed(self, data: bytes) -> bool:
        """Take bytes of the body; always returns False."""
        self._last_s = time.monotonic()
        if not self._parts:
            self._begun_s = self._last_s
        self._parts.append(data)
        return False

    @property
    def first(self) -> Answer:
        """Empty."""
        return Answer()

    events = passed_over = 0
    event_tokens = ()
    """It has no events."""

    def describe(self) -> str:
        """Return what of the answer was read, for a message."""
        size = sum(map(len, self._parts))
        return f"{size:,} bytes of its body had come" if size else ""

    def finish(self, *, is_delimited: bool = True) -> Answer:  # noqa: ARG002 - one shape
        """Return the answer; raises ``BadAnswer``."""
        started_s = time.monotonic()
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        answer = Answer(outputs=self._layouts.decode(body, self._rooms))
        self._times.arrive_s += self._last_s - self._begun_s
        self._times.decode_s += time.monotonic() - started_s
        return answer
