"""GGUF model files: one whose weights are quantised, written again in F16 or Q8_0.

The format is that of llama.cpp (ggml-org/ggml, docs/gguf.md, version 3, little-endian):
header, key-values, tensor descriptions, and the tensors, each aligned. Key-values are
copied as they are; what changes is the tensors' type and place.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32
F32, F16, Q4_1, Q8_0 = 0, 1, 3, 8
FILE_TYPES = {F16: 1, Q8_0: 7}
"""Type of the matrices -> the value of ``general.file_type`` that says so."""
# Type number of a scalar value -> its form for struct.
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
    """The file is no GGUF that can be read here; the text says why."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's description; the innermost dimension comes first."""

    name: bytes
    shape: tuple[int, ...]
    kind: int
    offset: int
    """Bytes after the beginning of the tensors."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are in a file."""

    metadata: tuple[int, int]
    """Begin and end of the key-values."""
    count: int
    """Number of key-values."""
    values: Mapping[bytes, int]
    """Key -> place of its value, for scalars and strings."""
    tensors: tuple[Tensor, ...]
    data: int
    """Begin of the tensors."""


class Cursor:
    """Reads little-endian values one after another."""

    def __init__(self, data: bytes) -> None:
        self.at = 0
        self._data = data

    def take(self, form: str) -> int:
        """Return one number; ``BadModel`` at the end of the file."""
        try:
            (found,) = struct.unpack_from(f"<{form}", self._data, self.at)
        except struct.error:
            raise BadModel(
                f"the file ends at byte {len(self._data):,}, in its header"
            ) from None
        self.at += struct.calcsize(f"<{form}")
        return int(found)

    def text(self) -> bytes:
        length = self.take("Q")
        begin = self.at
        if length > len(self._data) - begin:
            raise BadModel(f"a text of {length:,} bytes at byte {begin:,}")
        self.at += length
        return self._data[begin : self.at]

    def skip(self, kind: int) -> None:
        """Pass over a value of a type."""
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            inner, count = self.take("I"), self.take("Q")
            if inner in SCALARS:
                self.at += count * struct.calcsize(f"<{SCALARS[inner]}")
            else:
                for _ in range(count):
                    self.skip(inner)
        elif kind in SCALARS:
            self.at += struct.calcsize(f"<{SCALARS[kind]}")
        else:
            raise BadModel(f"a value of the unknown type {kind} at byte {self.at:,}")


def read_layout(data: bytes) -> Layout:
    """Return the layout of a GGUF file; ``BadModel`` says what is wrong with it."""
    if data[:4] != MAGIC:
        raise BadModel(f"it begins with {data[:4]!r}, but should with {MAGIC!r}")
    cursor = Cursor(data)
    cursor.at = 4
    version = cursor.take("I")
    if version != VERSION:
        raise BadModel(f"GGUF version {version}, but should be {VERSION}")
    tensors, count = cursor.take("Q"), cursor.take("Q")
    begin = cursor.at
    values = {}
    for _ in range(count):
        key, kind = cursor.text(), cursor.take("I")
        if kind != ARRAY:
            values[key] = cursor.at
        cursor.skip(kind)
    end = cursor.at
    found = []
    for _ in range(tensors):
        name = cursor.text()
        shape = tuple(cursor.take("Q") for _ in range(cursor.take("I")))
        found.append(Tensor(name, shape, cursor.take("I"), cursor.take("Q")))
    if b"general.alignment" in values:
        raise BadModel("it sets general.alignment, which is not supported here")
    data_begin = -(-cursor.at // ALIGNMENT) * ALIGNMENT
    return Layout((begin, end), count, values, tuple(found), data_begin)


def weights(data: bytes, layout: Layout, one: Tensor) -> NDArray[np.float32]:
    """Return a tensor's values as float32, flat, in the file's order."""
    count = math.prod(one.shape)
    begin = layout.data + one.offset
    forms = {F32: _F32, F16: _F16, Q4_1: _Q4_1, Q8_0: _Q8_0}
    if one.kind not in forms:
        raise BadModel(
            f"tensor {one.name.decode()} has the type {one.kind}; read here are F32"
            " (0), F16 (1), Q4_1 (3) and Q8_0 (8)"
        )
    form = forms[one.kind]
    units = count if one.kind in (F32, F16) else count // BLOCK
    if begin + units * form.itemsize > len(data):
        raise BadModel(f"tensor {one.name.decode()} lies beyond the file's end")
    raw = np.frombuffer(data, form, units, begin)
    if one.kind == Q4_1:
        # The low halves of the 16 bytes are the first 16 weights.
        parts = np.concatenate((raw["q"] & 15, raw["q"] >> 4), axis=1)
        scaled = parts * raw["d"].astype(np.float32)[:, None]
        return (scaled + raw["m"].astype(np.float32)[:, None]).ravel()
    if one.kind == Q8_0:
        return (raw["q"] * raw["d"].astype(np.float32)[:, None]).ravel()
    return raw.astype(np.float32)


def rewrite(source: Path, target: Path, kind: int) -> None:
    """Write a model again with its matrices in ``F16`` or ``Q8_0``; vectors are F32.

    Raises ``BadModel`` with the file's name. The target appears whole or not at all.
    """
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with source.open("rb") as file:
            data = file.read()
        layout = read_layout(data)
        with part.open("wb") as out:
            _write(data, layout, kind, out.write)
        part.replace(target)
    except BadModel as error:
        raise BadModel(
            f"{source} cannot be read as a GGUF model: {error}. Install or download it"
            " again."
        ) from None
    finally:
        part.unlink(missing_ok=True)


def _write(
    data: bytes, layout: Layout, matrices: int, write: Callable[[bytes], object]
) -> None:
    begin, end = layout.metadata
    metadata = bytearray(data[begin:end])
    place = layout.values.get(b"general.file_type")
    if place is not None:
        struct.pack_into("<I", metadata, place - begin, FILE_TYPES[matrices])
    kinds = [kind_for(one.shape, matrices) for one in layout.tensors]
    sizes = [
        size_of(math.prod(one.shape), kind)
        for one, kind in zip(layout.tensors, kinds, strict=True)
    ]
    described = bytearray()
    offset = 0
    for one, kind, size in zip(layout.tensors, kinds, sizes, strict=True):
        described += struct.pack("<Q", len(one.name)) + one.name
        described += struct.pack("<I", len(one.shape))
        described += struct.pack(f"<{len(one.shape)}Q", *one.shape)
        described += struct.pack("<IQ", kind, offset)
        offset += size + _gap(size)
    head = MAGIC + struct.pack("<IQQ", VERSION, len(layout.tensors), layout.count)
    start = len(head) + len(metadata) + len(described)
    write(head)
    write(bytes(metadata))
    write(bytes(described))
    write(bytes(_gap(start)))
    for one, kind, size in zip(layout.tensors, kinds, sizes, strict=True):
        write(packed(weights(data, layout, one), kind))
        write(bytes(_gap(size)))


def kind_for(shape: tuple[int, ...], matrices: int) -> int:
    """Return a tensor's type: vectors stay F32, and rows that no block fits are F16."""
    if len(shape) < 2:
        return F32
    return F16 if matrices == Q8_0 and shape[0] % BLOCK else matrices


def size_of(count: int, kind: int) -> int:
    """Return the bytes of so many weights."""
    if kind == Q8_0:
        return count // BLOCK * _Q8_0.itemsize
    return count * (_F32 if kind == F32 else _F16).itemsize


def packed(values: NDArray[np.float32], kind: int) -> bytes:
    """Return weights as the file has them.

    Q8_0: the largest of a block of 32 is 127 times its scale, as in ggml.
    """
    if kind != Q8_0:
        return values.astype(_F32 if kind == F32 else _F16).tobytes()
    blocks = values.reshape(-1, BLOCK)
    scale = np.abs(blocks).max(axis=1) / 127
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    found = np.empty(len(blocks), _Q8_0)
    found["d"] = scale
    found["q"] = np.rint(blocks * inverse[:, None])
    return found.tobytes()


def _gap(size: int) -> int:
    """Return how many bytes are left to the next aligned place."""
    return -size % ALIGNMENT
