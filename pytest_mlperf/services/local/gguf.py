"""GGUF model files: rewrites a quantised model in F16 or Q8_0.

The format is that of llama.cpp (ggml-org/ggml, docs/gguf.md, version 3, little-endian):
header, key-values, tensor descriptions, and the tensors, each aligned. Key-values are
copied unchanged; the type and the offset of the tensors change.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.core.whole_file import replace_whole

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32
F32, F16, Q4_1, Q8_0 = 0, 1, 3, 8
FILE_TYPES = {F16: 1, Q8_0: 7}
"""Type of the matrices -> value of ``general.file_type``."""
# Type number of a scalar value -> its format for struct.
SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
    12: "d",
}  # fmt: skip
STRING, ARRAY = 8, 9
BLOCK = 32
"""Weights that share a scale."""
_F32: np.dtype[Any] = np.dtype("<f4")
_F16: np.dtype[Any] = np.dtype("<f2")
_Q4_1: np.dtype[Any] = np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", (16,))])
_Q8_0: np.dtype[Any] = np.dtype([("d", "<f2"), ("q", "i1", (32,))])


class BadModel(ValueError):
    """The file cannot be read as GGUF; the text says why."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor's description; the innermost dimension is first in ``shape``."""

    name: bytes
    shape: tuple[int, ...]
    kind: int
    offset: int
    """Bytes from the start of the tensors."""


@dataclass(frozen=True, slots=True)
class ModelLayout:
    """Where the parts of a file are; all places are byte offsets."""

    metadata: tuple[int, int]
    """Begin and end of the key-values."""
    count: int
    """Number of key-values."""
    values: Mapping[bytes, int]
    """Key -> offset of its value, for scalars and strings."""
    tensors: tuple[TensorInfo, ...]
    data: int
    """Start of the tensors."""


class Cursor:
    """Reads little-endian values one after another."""

    def __init__(self, data: bytes) -> None:
        self.at = 0
        self._data = data

    def read_number(self, form: str) -> int:
        """Return one number; raises ``BadModel`` at the end of the file."""
        try:
            (number,) = struct.unpack_from(f"<{form}", self._data, self.at)
        except struct.error:
            raise BadModel(
                f"the file ends at byte {len(self._data):,}, in its header"
            ) from None
        self.at += struct.calcsize(f"<{form}")
        return int(number)

    def read_text(self) -> bytes:
        length = self.read_number("Q")
        begin = self.at
        if length > len(self._data) - begin:
            raise BadModel(f"a text of {length:,} bytes at byte {begin:,}")
        self.at += length
        return self._data[begin : self.at]

    def skip(self, kind: int) -> None:
        """Skip a value of a type."""
        if kind == STRING:
            self.read_text()
        elif kind == ARRAY:
            inner, count = self.read_number("I"), self.read_number("Q")
            if inner in SCALARS:
                self.at += count * struct.calcsize(f"<{SCALARS[inner]}")
            else:
                for _ in range(count):
                    self.skip(inner)
        elif kind in SCALARS:
            self.at += struct.calcsize(f"<{SCALARS[kind]}")
        else:
            raise BadModel(f"a value of the unknown type {kind} at byte {self.at:,}")


def read_layout(data: bytes) -> ModelLayout:
    """Return the layout of a GGUF file; raises ``BadModel``."""
    if data[:4] != MAGIC:
        raise BadModel(f"it begins with {data[:4]!r}, but should with {MAGIC!r}")
    cursor = Cursor(data)
    cursor.at = 4
    version = cursor.read_number("I")
    if version != VERSION:
        raise BadModel(f"GGUF version {version}, but should be {VERSION}")
    tensor_count, count = cursor.read_number("Q"), cursor.read_number("Q")
    begin = cursor.at
    values = {}
    for _ in range(count):
        key, kind = cursor.read_text(), cursor.read_number("I")
        if kind != ARRAY:
            values[key] = cursor.at
        cursor.skip(kind)
    end = cursor.at
    tensors = []
    for _ in range(tensor_count):
        name = cursor.read_text()
        shape = tuple(cursor.read_number("Q") for _ in range(cursor.read_number("I")))
        tensors.append(
            TensorInfo(name, shape, cursor.read_number("I"), cursor.read_number("Q"))
        )
    if b"general.alignment" in values:
        raise BadModel("it sets general.alignment, which is not supported here")
    data_begin = -(-cursor.at // ALIGNMENT) * ALIGNMENT
    return ModelLayout((begin, end), count, values, tuple(tensors), data_begin)


def read_weights(
    data: bytes, layout: ModelLayout, tensor: TensorInfo
) -> NDArray[np.float32]:
    """Return a tensor's values as float32, flat, in the file's order."""
    count = math.prod(tensor.shape)
    begin = layout.data + tensor.offset
    forms = {F32: _F32, F16: _F16, Q4_1: _Q4_1, Q8_0: _Q8_0}
    if tensor.kind not in forms:
        raise BadModel(
            f"tensor {tensor.name.decode()} has the type {tensor.kind}; read here are"
            " F32 (0), F16 (1), Q4_1 (3) and Q8_0 (8)"
        )
    form = forms[tensor.kind]
    units = count if tensor.kind in (F32, F16) else count // BLOCK
    if begin + units * form.itemsize > len(data):
        raise BadModel(f"tensor {tensor.name.decode()} lies beyond the file's end")
    raw = np.frombuffer(data, form, units, begin)
    if tensor.kind == Q4_1:
        # The low halves of the 16 bytes hold the first 16 weights.
        parts = np.concatenate((raw["q"] & 15, raw["q"] >> 4), axis=1)
        scaled = parts * raw["d"].astype(np.float32)[:, None]
        return (scaled + raw["m"].astype(np.float32)[:, None]).ravel()
    if tensor.kind == Q8_0:
        return (raw["q"] * raw["d"].astype(np.float32)[:, None]).ravel()
    return raw.astype(np.float32)


def rewrite_model(source: Path, target: Path, kind: int) -> None:
    """Rewrite a model with matrices in ``F16`` or ``Q8_0`` and vectors in F32.

    Raises ``BadModel`` with the file's name. A partial target is never left behind.
    """
    try:
        with source.open("rb") as file:
            data = file.read()
        layout = read_layout(data)
        with replace_whole(target) as partial, partial.open("wb") as out:
            _write(data, layout, kind, out.write)
    except BadModel as error:
        raise BadModel(
            f"{source} cannot be read as a GGUF model: {error}. Install or download it"
            " again."
        ) from None


def _write(
    data: bytes, layout: ModelLayout, matrices: int, write: Callable[[bytes], object]
) -> None:
    begin, end = layout.metadata
    metadata = bytearray(data[begin:end])
    type_offset = layout.values.get(b"general.file_type")
    if type_offset is not None:
        struct.pack_into("<I", metadata, type_offset - begin, FILE_TYPES[matrices])
    kinds = [choose_type(tensor.shape, matrices) for tensor in layout.tensors]
    sizes = [
        count_bytes(math.prod(tensor.shape), kind)
        for tensor, kind in zip(layout.tensors, kinds, strict=True)
    ]
    infos = bytearray()
    offset = 0
    for tensor, kind, size in zip(layout.tensors, kinds, sizes, strict=True):
        infos += struct.pack("<Q", len(tensor.name)) + tensor.name
        infos += struct.pack("<I", len(tensor.shape))
        infos += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
        infos += struct.pack("<IQ", kind, offset)
        offset += size + _padding(size)
    head = MAGIC + struct.pack("<IQQ", VERSION, len(layout.tensors), layout.count)
    start = len(head) + len(metadata) + len(infos)
    write(head)
    write(bytes(metadata))
    write(bytes(infos))
    write(bytes(_padding(start)))
    for tensor, kind, size in zip(layout.tensors, kinds, sizes, strict=True):
        write(pack_weights(read_weights(data, layout, tensor), kind))
        write(bytes(_padding(size)))


def choose_type(shape: tuple[int, ...], matrices: int) -> int:
    """Return the new type: F32 for vectors, F16 for rows that are no whole blocks."""
    if len(shape) < 2:
        return F32
    return F16 if matrices == Q8_0 and shape[0] % BLOCK else matrices


def count_bytes(count: int, kind: int) -> int:
    """Return the size in bytes of ``count`` weights."""
    if kind == Q8_0:
        return count // BLOCK * _Q8_0.itemsize
    return count * (_F32 if kind == F32 else _F16).itemsize


def pack_weights(values: NDArray[np.float32], kind: int) -> bytes:
    """Return weights in the file's format.

    Q8_0 as in ggml: the largest magnitude in a block of 32 is 127 times its scale.
    """
    if kind != Q8_0:
        return values.astype(_F32 if kind == F32 else _F16).tobytes()
    blocks = values.reshape(-1, BLOCK)
    scale = np.abs(blocks).max(axis=1) / 127
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    quantized = np.empty(len(blocks), _Q8_0)
    quantized["d"] = scale
    quantized["q"] = np.rint(blocks * inverse[:, None])
    return quantized.tobytes()


def _padding(size: int) -> int:
    """Return the number of bytes up to the next aligned offset."""
    return -size % ALIGNMENT
