"""Tables in the forms that the official datasets have: pickles, parquet, JSON.

A pickle runs what it names, so only what a pandas frame is made of may be named in
one; the rest of a file is refused before anything of it is called.
"""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import IO
from typing import Any

from pytest_mlperf.api.errors import Missing

Table = Mapping[str, Sequence[Any]]
"""Column -> its values, all of one length."""

_ARRAYS = {"_reconstruct", "_frombuffer", "scalar"}
# What pandas 1 to 3 and numpy 1 and 2 write into the pickle of a frame of objects and
# numbers, as the official ones are. Arrow's strings are left out: Arrow rebuilds them
# from raw buffers and looks at no bound.
ALLOWED: Mapping[str, frozenset[str]] = {
    "builtins": frozenset({"slice", "bytearray", "set", "frozenset", "complex"}),
    "__builtin__": frozenset({"slice", "bytearray", "set", "frozenset", "complex"}),
    "_codecs": frozenset({"encode"}),
    "datetime": frozenset({"datetime", "date", "timedelta"}),
    "numpy": frozenset({"ndarray", "dtype"}),
    "numpy.core.multiarray": frozenset(_ARRAYS),
    "numpy._core.multiarray": frozenset(_ARRAYS),
    "numpy.core.numeric": frozenset(_ARRAYS),
    "numpy._core.numeric": frozenset(_ARRAYS),
    "pandas": frozenset({"DataFrame", "Index", "RangeIndex", "StringDtype"}),
    "pandas.core.frame": frozenset({"DataFrame"}),
    "pandas.core.series": frozenset({"Series"}),
    "pandas.core.internals.managers": frozenset({"BlockManager", "SingleBlockManager"}),
    "pandas.core.internals.blocks": frozenset({"new_block", "_unpickle_block"}),
    "pandas._libs.internals": frozenset({"_unpickle_block", "BlockManager"}),
    "pandas._libs.arrays": frozenset({"__pyx_unpickle_NDArrayBacked"}),
    "pandas.core.indexes.base": frozenset({"Index", "_new_Index"}),
    "pandas.core.indexes.range": frozenset({"RangeIndex"}),
    "pandas.core.indexes.numeric": frozenset({"Int64Index", "Float64Index"}),
    "pandas.core.arrays.string_": frozenset(
        {"StringArray", "StringArrayNumpySemantics", "StringDtype"}
    ),
    "pandas.core.arrays.numpy_": frozenset({"NumpyExtensionArray", "PandasArray"}),
    "pandas.core.arrays.categorical": frozenset({"Categorical"}),
    "pandas.core.dtypes.dtypes": frozenset({"CategoricalDtype"}),
    "pandas.core.indexes.category": frozenset({"CategoricalIndex"}),
}
MOVED = {
    # pandas 2 has one class for every index of numbers.
    ("pandas.core.indexes.numeric", name): ("pandas.core.indexes.base", "Index")
    for name in ("Int64Index", "Float64Index")
}


class Refused(pickle.UnpicklingError):
    """A pickle names something that no frame needs."""


class FrameUnpickler(pickle.Unpickler):
    """Reads pickled frames and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in ALLOWED.get(module, ()):
            raise Refused(f"it names {module}.{name}, which no frame is made of")
        return super().find_class(*MOVED.get((module, name), (module, name)))


def read(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Table:
    """Read columns of a table: .pkl, .pkl.gz, .parquet, .json or .jsonl.

    Raises ``Missing`` for an absent package and ``ValueError`` for a file that is no
    such table or lacks a column.
    """
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    readers = {"pkl": _pickle, "pickle": _pickle, "parquet": _parquet}
    try:
        table = readers.get(kind, _json)(path)
    except Missing:
        raise
    except Refused as error:
        raise ValueError(
            f"{path} is not read: {error}, and a pickle runs what it names. Take the"
            " dataset from its official source, and compare its checksum; a table of"
            " your own can be a .parquet."
        ) from None
    except Exception as error:  # whatever a damaged file makes pickle and pandas raise
        raise ValueError(
            f"{path} cannot be read as a {kind} table: {type(error).__name__}:"
            f" {str(error)[:200]}; download it again."
        ) from error
    absent = [name for name in columns if name not in table]
    if absent:
        raise ValueError(
            f"{path} has the columns {', '.join(table) or 'none'}, but should also"
            f" have {', '.join(absent)}. Take the dataset as its official source"
            " offers it."
        )
    wanted = [*columns, *(name for name in optional if name in table)]
    return {name: table[name] for name in wanted}


def _opened(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def _pickle(path: Path) -> Table:
    _need("pandas", path)
    with _opened(path) as file:
        frame = FrameUnpickler(file).load()
    if type(frame).__name__ != "DataFrame":
        raise Refused(f"it holds a {type(frame).__name__}, but should a DataFrame")
    return {str(name): frame[name].tolist() for name in frame.columns}


def _parquet(path: Path) -> Table:
    _need("pyarrow", path)
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _json(path: Path) -> Table:
    """Read a list of records, one record a line, or columns of a frame."""
    with _opened(path) as file:
        if path.name.removesuffix(".gz").endswith(".jsonl"):
            found: Any = [json.loads(line) for line in file if line.strip()]
        else:
            found = json.load(file)
    if isinstance(found, dict):
        # As pandas writes a frame: column -> row number -> value.
        return {
            name: list(rows.values()) if isinstance(rows, dict) else rows
            for name, rows in found.items()
        }
    if not found or not all(isinstance(row, dict) for row in found):
        raise ValueError("it holds no list of records")
    # A column that one record lacks is no column.
    shared = set.intersection(*(set(row) for row in found))
    return {name: [row[name] for row in found] for name in found[0] if name in shared}


def _need(package: str, path: Path) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise Missing(
            f"the package {package} is not installed, and {path.name} cannot be read"
            " without it; pip install 'pytest-mlperf[llm]'."
        )
