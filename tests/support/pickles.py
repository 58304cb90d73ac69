"""Pickles of frames, opcode by opcode: honest ones, and what no pandas writes."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NOTHING = object()
OBJECTS = "O8"


@dataclass(frozen=True)
class Raw:
    """Opcodes as they are."""

    code: bytes


@dataclass(frozen=True)
class Name:
    """A name that the pickle looks up: ``numpy ndarray``."""

    path: str

    @property
    def code(self) -> bytes:
        module, name = self.path.split(" ")
        return f"c{module}\n{name}\n".encode()


@dataclass(frozen=True)
class Call:
    """A name, called; with a state that the result is then given."""

    path: str
    args: tuple[Any, ...] = ()
    state: Any = NOTHING
    opcode: bytes = b"R"

    @property
    def code(self) -> bytes:
        made = Name(self.path).code + write(self.args) + self.opcode
        return made if self.state is NOTHING else made + write(self.state) + b"b"


def write(value: Any) -> bytes:
    """Return the opcodes that leave a value on the stack."""
    if isinstance(value, Raw | Name | Call):
        return value.code
    if isinstance(value, tuple | list):
        inside = b"".join(map(write, value))
        return b"(" + inside + (b"t" if isinstance(value, tuple) else b"l")
    if isinstance(value, dict):
        inside = b"".join(write(key) + write(one) for key, one in value.items())
        return b"(" + inside + b"d"
    if isinstance(value, bytes):
        return b"B" + struct.pack("<I", len(value)) + value
    return pickle.dumps(value, 2)[2:-1]


def write_pickle(value: Any) -> bytes:
    """Return a whole pickle."""
    return b"\x80\x04" + write(value) + b"."


def make_dtype(code: str, order: str = "<") -> Call:
    state = (3, order, None, None, None, -1, -1, 0)
    return Call("numpy dtype", (code, False, True), state)


def make_array(
    data: Any, shape: tuple[Any, ...], code: str = OBJECTS, *, fortran: bool = False
) -> Call:
    """Return an array as numpy writes it: a list of objects, or bytes."""
    args = (Name("numpy ndarray"), (0,), b"b")
    state = (1, shape, make_dtype(code), fortran, data)
    return Call("numpy.core.multiarray _reconstruct", args, state)


def make_buffer(data: Any, shape: tuple[Any, ...], code: str) -> Call:
    """Return an array as protocol 5 has it."""
    args = (data, make_dtype(code), shape, "C")
    return Call("numpy._core.numeric _frombuffer", args)


def make_index(data: Any) -> Call:
    args = (Name("pandas.core.indexes.base Index"), {"data": data, "name": None})
    return Call("pandas.core.indexes.base _new_Index", args)


def make_block(values: Any, places: Any) -> Call:
    return Call("pandas._libs.internals _unpickle_block", (values, places, 2))


def make_slice(*numbers: int | None) -> Call:
    return Call("builtins slice", numbers)


def make_frame(names: Sequence[Any], blocks: Sequence[Any]) -> Call:
    """Return a frame of these columns in these blocks."""
    axis = make_index(make_array(list(names), (len(names),)))
    args = (tuple(blocks), [axis, axis])
    manager = Call("pandas._libs.internals BlockManager", args)
    return Call("pandas.core.frame DataFrame", (), {"_mgr": manager}, b"\x81")


def make_cells(columns: Mapping[str, Sequence[Any]]) -> Call:
    """Return a frame with one block of objects."""
    rows = len(next(iter(columns.values())))
    flat = [cell for column in columns.values() for cell in column]
    block = make_array(flat, (len(columns), rows))
    place = make_slice(0, len(columns), 1)
    return make_frame(list(columns), [make_block(block, place)])
