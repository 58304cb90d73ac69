"""Reads columns of a pickled pandas frame without pandas; run as a program of its own.

``python -I -S pickled_frame.py COLUMN… < FILE``; see ``frame_process``. A pickle names
what it wants called. Here a name is data: it becomes an inert ``PickledCall`` that
records its arguments, and nothing of numpy or pandas is imported. The frame is then
rebuilt from the parts by what is below, which checks every shape against the bytes
that are there.

It imports the standard library alone, so that it starts without the package.
"""

from __future__ import annotations

import gc
import gzip
import io
import json
import math
import os
import pickle
import resource
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from typing import BinaryIO

REFUSED = 3
NUMBERS = frozenset({bool, int, float})
ARRAY_CALLS = frozenset({"_reconstruct", "_frombuffer", "scalar"})
TABLE = """
builtins slice bytearray
__builtin__ slice bytearray
_codecs encode
datetime datetime date timedelta
numpy ndarray dtype
numpy.core.multiarray _reconstruct scalar
numpy._core.multiarray _reconstruct scalar
numpy.core.numeric _frombuffer
numpy._core.numeric _frombuffer
pandas DataFrame Index RangeIndex StringDtype
pandas.core.frame DataFrame
pandas.core.internals.managers BlockManager
pandas.core.internals.blocks new_block _unpickle_block
pandas._libs.internals _unpickle_block BlockManager
pandas._libs.arrays __pyx_unpickle_NDArrayBacked
pandas.core.indexes.base Index _new_Index
pandas.core.indexes.range RangeIndex
pandas.core.indexes.numeric Int64Index Float64Index
pandas.core.indexes.category CategoricalIndex
pandas.core.arrays.string_ StringArray StringArrayNumpySemantics StringDtype
pandas.core.arrays.numpy_ NumpyExtensionArray PandasArray
pandas.core.arrays.categorical Categorical
pandas.core.dtypes.dtypes CategoricalDtype
"""
NAMES = {line.split()[0]: {*line.split()[1:]} for line in TABLE.splitlines() if line}
"""What pandas 1.3 to 3 and numpy 1 and 2 write into the pickle of a frame. A file that
names anything else is refused."""
FORMATS = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H",
    "u4": "I", "u8": "Q", "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip
"""numpy's code of a number -> struct's."""
MOST_MEMORY, MEMORY_A_BYTE = 1 << 30, 32
"""Bytes of memory: for any file, and for each of its bytes."""
MOST_VALUES, VALUES_A_BYTE = 1 << 22, 16
"""Values and characters of cells: for any file, and for each of its bytes."""
MOST_PLAIN, PLAIN_A_BYTE = 1 << 24, 20
"""Bytes that a gzip file may become: any, and each of its bytes; an official one 5."""
DIMENSIONS = 8


class Refused(Exception):
    """The file is no frame, or asks for more than one needs; the text says which."""


class PickledCall:
    """A name in a pickle, called with ``args``; nothing happens but this record."""

    __slots__ = ("args", "state")
    name = ""
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> PickledCall:
        part = super().__new__(cls)
        part.args, part.state = args, None
        return part

    def __setstate__(self, state: Any) -> None:
        self.state = state


class FrameUnpickler(pickle.Unpickler):
    """Turns every name that a frame consists of into a ``PickledCall``."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in NAMES.get(module, ()):
            raise Refused(f"it names {module}.{name}, which is not part of a frame")
        return type(name, (PickledCall,), {"__slots__": (), "name": name})


def require(part: Any, *names: str) -> Any:
    """Return a part that has one of these names; ``Refused`` for anything else."""
    if isinstance(part, PickledCall) and part.name in names:
        return part
    raise Refused(f"it holds {describe(part)} where {' or '.join(names)} belongs")


def describe(value: Any) -> str:
    """Return what a value is, in words."""
    return f"a {value.name if isinstance(value, PickledCall) else type(value).__name__}"


def read_bytes(value: Any) -> bytes:
    """Return the bytes of a buffer in any of its spellings."""
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if require(value, "bytearray", "encode").name == "bytearray":
        return read_bytes(value.args[0] if value.args else b"")
    text, codec = value.args
    if codec != "latin1":
        raise Refused(f"bytes in the codec {str(codec)[:20]!r}, not latin1")
    return str(text).encode("latin-1")


def read_dtype(part: Any) -> str:
    """Return byte order and code: ``<i8``; ``|O`` for objects."""
    require(part, "dtype")
    code = str(part.args[0])
    if code in ("O8", "O"):
        return "|O"
    order = part.state[1] if part.state else "<"
    if code not in FORMATS or order not in ("<", ">", "|", "="):
        raise Refused(f"an array of {order}{code[:10]}, not of objects or numbers")
    return ("<" if order in "|=" else str(order)) + code


def unpack_numbers(raw: bytes, dtype: str, count: int) -> list[Any]:
    """Return so many numbers; bytes are never taken for objects."""
    if dtype == "|O":
        raise Refused("an array of objects made of raw bytes, which would be pointers")
    if len(raw) != count * int(dtype[2:]):
        raise Refused(f"an array of {count} {dtype} in {len(raw)} bytes")
    return list(struct.unpack(f"{dtype[0]}{count}{FORMATS[dtype[1:]]}", raw))


def read_array(part: Any) -> tuple[tuple[int, ...], list[Any]]:
    """Return an array's shape and its values in C order."""
    require(part, "_reconstruct", "_frombuffer")
    if part.name == "_frombuffer":
        data, dtype, shape, order = part.args
        is_fortran = order == "F"
    else:
        _, shape, dtype, is_fortran, data = part.state
    kind = read_dtype(dtype)
    if (
        not isinstance(shape, tuple)
        or len(shape) > DIMENSIONS
        or not all(type(length) is int and length >= 0 for length in shape)
    ):
        raise Refused(f"an array of the shape {str(shape)[:40]}")
    count = math.prod(shape)
    is_list = kind == "|O" and type(data) is list
    values = data if is_list else unpack_numbers(read_bytes(data), kind, count)
    if len(values) != count:
        raise Refused(f"an array of {count} objects in a list of {len(values)}")
    if is_fortran and len(shape) > 1:
        values = reorder(values, shape)
    return shape, values


def reorder(values: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """Return values in Fortran's order in C's."""
    if len(shape) != 2:
        raise Refused(f"an array of {len(shape)} dimensions in Fortran's order")
    rows = shape[0]
    return [value for row in range(rows) for value in values[row::rows]]


def nest(shape: tuple[int, ...], values: list[Any]) -> Any:
    """Return values in lists as deep as the shape."""
    if not shape:
        return values[0]
    if len(shape) == 1:
        return values
    step = math.prod(shape[1:])
    starts = range(0, shape[0] * step, step) if step else [0] * shape[0]
    return [nest(shape[1:], values[start : start + step]) for start in starts]


def read_extension(part: Any) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape and values of an array or of a pandas array around one."""
    if isinstance(part, PickledCall) and part.name == "__pyx_unpickle_NDArrayBacked":
        fields = part.state or part.args[2]
        arrays = (one for one in fields if getattr(one, "name", "") in ARRAY_CALLS)
        part = next(arrays, None)
    return read_array(part)


def read_names(part: Any) -> list[str]:
    """Return the labels of the index of columns."""
    fields = require(part, "_new_Index").args[1]
    shape, values = read_extension(fields.get("data"))
    if len(shape) != 1 or not all(isinstance(v, str | int) for v in values):
        raise Refused("columns without names")
    return [str(value) for value in values]


def read_places(part: Any, count: int) -> list[int]:
    """Return which of the frame's columns a block holds."""
    if isinstance(part, PickledCall) and part.name == "slice":
        return list(range(count)[slice(*part.args)])
    places = read_array(part)[1]
    if {*places} <= {*range(count)}:
        return places
    raise Refused("columns in places that are not there")


def read_blocks(manager: Any) -> tuple[Any, list[tuple[Any, Any]]]:
    """Return the index of columns, and each block's values and places."""
    require(manager, "BlockManager")
    if manager.args:
        blocks, axes = manager.args[:2]
        calls = (require(block, "new_block", "_unpickle_block") for block in blocks)
        return axes[0], [call.args[:2] for call in calls]
    content = manager.state[3]["0.14.1"]
    return content["axes"][0], [(b["values"], b["mgr_locs"]) for b in content["blocks"]]


def read_frame(frame: Any, wanted: list[str]) -> tuple[list[str], dict[str, list[Any]]]:
    """Return the names of all columns, and name -> values of those that are wanted."""
    if getattr(frame, "name", "") != "DataFrame" or not isinstance(frame, PickledCall):
        raise Refused(f"it holds {describe(frame)}, but should hold a DataFrame")
    state = frame.state
    axis, blocks = read_blocks(state["_mgr"] if "_mgr" in state else state["_data"])
    names = read_names(axis)
    columns: dict[str, list[Any]] = {}
    for values, where in blocks:
        places = read_places(where, len(names))
        if not {names[place] for place in places} & {*wanted}:
            continue
        shape, flat = read_extension(values)
        rows = shape[-1]
        if len(shape) not in (1, 2) or len(flat) != len(places) * rows:
            raise Refused(f"a block of the shape {shape} for {len(places)} columns")
        for number, place in enumerate(places):
            columns[names[place]] = flat[number * rows : (number + 1) * rows]
    if len({len(column) for column in columns.values()}) > 1:
        raise Refused("columns of different lengths")
    return names, columns


class PlainValues:
    """Makes cells plain: lists, texts, numbers; within a bound on all of them."""

    def __init__(self, most: int) -> None:
        self.left = most

    def convert(self, value: Any) -> Any:
        """Return a cell as JSON has it; ``Refused`` for what is no data."""
        self.left -= 1 + (len(value) if isinstance(value, str) else 0)
        if self.left < 0:
            raise Refused("more values than a file of its size holds")
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list | tuple):
            if NUMBERS.issuperset(map(type, value)):
                self.left -= len(value)
                return value
            return [self.convert(one) for one in value]
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            self.left -= sum(map(len, value))
            return {key: self.convert(one) for key, one in value.items()}
        if isinstance(value, PickledCall) and value.name == "scalar":
            dtype, raw = value.args
            return unpack_numbers(read_bytes(raw), read_dtype(dtype), 1)[0]
        if isinstance(value, PickledCall) and value.name in ARRAY_CALLS:
            return self.convert(nest(*read_array(value)))
        raise Refused(f"{describe(value)} in a cell, not a list, a text or a number")


def drop_rights(size: int) -> None:
    """Give up files, sockets and (unless root) processes; bound memory and time.

    A limit that the system does not have is left out.
    """
    physical = resource.getpagesize() * os.sysconf("SC_PHYS_PAGES")
    memory = min(MOST_MEMORY + MEMORY_A_BYTE * size, max(physical, MOST_MEMORY))
    limits = {
        "RLIMIT_AS": memory, "RLIMIT_CPU": 120 + size // (1 << 20), "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": 0, "RLIMIT_NPROC": 0, "RLIMIT_NOFILE": 0,
    }  # fmt: skip
    for name, value in limits.items():
        with suppress(ValueError, OSError, AttributeError):
            resource.setrlimit(getattr(resource, name), (value, value))


def read_input(stream: BinaryIO) -> bytes:
    """Return the pickle, unpacked where it is a gzip file."""
    raw = stream.read()
    if raw[:2] != b"\x1f\x8b":
        return raw
    most = MOST_PLAIN + PLAIN_A_BYTE * len(raw)
    plain = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(most + 1)
    if len(plain) <= most:
        return plain
    raise Refused(f"a gzip file of {len(raw):,} bytes with more than {most:,}")


def list_lines(raw: bytes, wanted: list[str]) -> Iterator[str]:
    """Yield a line with names and number of rows, then a line a cell of each column."""
    names, columns = read_frame(FrameUnpickler(io.BytesIO(raw)).load(), wanted)
    present = [name for name in wanted if name in columns]
    rows = len(next(iter(columns.values()), ()))
    yield json.dumps({"names": names, "columns": present, "rows": rows})
    plain = PlainValues(MOST_VALUES + VALUES_A_BYTE * len(raw))
    for name in present:
        for value in columns[name]:
            yield json.dumps(plain.convert(value))


def explain_refusal(error: Exception) -> str:
    """Return why a file is not read, in words."""
    if isinstance(error, Refused):
        return str(error)
    words = {
        RecursionError: "lists in lists without an end",
        MemoryError: "it asks for more memory than a file of its size needs",
    }
    return words.get(type(error), f"{type(error).__name__}: {str(error)[:200]}")


def main() -> int:
    """Print the columns and return 0, or an empty line, the reason and ``REFUSED``."""
    gc.disable()
    try:
        drop_rights(os.fstat(0).st_size * PLAIN_A_BYTE)
        for line in list_lines(read_input(sys.stdin.buffer), sys.argv[1:]):
            sys.stdout.write(line + "\n")
    except Exception as error:  # noqa: BLE001 - whatever a damaged file makes
        sys.stdout.write(f"\n{json.dumps(explain_refusal(error))}\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
