"""Tables in the formats of the official datasets: pickle, parquet, JSON.

A pickle runs the functions that it names. Only those that a pandas frame consists of
are allowed; any other name is refused before anything is called.
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

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.benchmarks.files import LLM_EXTRA
from pytest_mlperf.benchmarks.files import require_package

Table = Mapping[str, Sequence[Any]]
"""Column -> its values, all of one length."""

_ARRAYS = {"_reconstruct", "_frombuffer", "scalar"}
# The names that pandas 1 to 3 and numpy 1 and 2 write into the pickle of a frame of
# objects and numbers, as the official ones are. Arrow's strings are not allowed: Arrow
# rebuilds them from raw buffers without a bounds check.
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


class PickleRefused(pickle.UnpicklingError):
    """A pickle names something that is not part of a frame."""


class FrameUnpickler(pickle.Unpickler):
    """Reads pickled frames and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in ALLOWED.get(module, ()):
            raise PickleRefused(
                f"it names {module}.{name}, which is not part of a frame"
            )
        return super().find_class(*MOVED.get((module, name), (module, name)))


def read_table(
    path: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Table:
    """Read columns of a table: .pkl, .pkl.gz, .parquet, .json or .jsonl.

    Raises ``RequirementMissing`` for an absent package and ``ValueError`` for a file
    that is no such table or lacks a column.
    """
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    readers = {"pkl": _pickle, "pickle": _pickle, "parquet": _parquet}
    try:
        table = readers.get(kind, _json)(path)
    except RequirementMissing:
        raise
    except PickleRefused as error:
        raise ValueError(
            f"{path} is not read: {error}, and a pickle runs the functions that it"
            " names. Take the dataset from its official source and compare its"
            " checksum, or save a table of your own as .parquet."
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
    present = [*columns, *(name for name in optional if name in table)]
    return {name: table[name] for name in present}


def _open_file(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def _pickle(path: Path) -> Table:
    require_package("pandas", f"{path.name} cannot be read", LLM_EXTRA)
    with _open_file(path) as file:
        frame = FrameUnpickler(file).load()
    if type(frame).__name__ != "DataFrame":
        raise PickleRefused(
            f"it holds a {type(frame).__name__}, but should hold a DataFrame"
        )
    return {str(name): frame[name].tolist() for name in frame.columns}


def _parquet(path: Path) -> Table:
    require_package("pyarrow", f"{path.name} cannot be read", LLM_EXTRA)
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _json(path: Path) -> Table:
    """Read a list of records, one record a line, or columns of a frame."""
    with _open_file(path) as file:
        if path.name.removesuffix(".gz").endswith(".jsonl"):
            content: Any = [json.loads(line) for line in file if line.strip()]
        else:
            content = json.load(file)
    if isinstance(content, dict):
        # As pandas writes a frame: column -> row number -> value.
        return {
            name: list(rows.values()) if isinstance(rows, dict) else rows
            for name, rows in content.items()
        }
    if not content or not all(isinstance(row, dict) for row in content):
        raise ValueError("it holds no list of records")
    # Only columns that every record has.
    names = set.intersection(*(set(row) for row in content))
    return {n: [row[n] for row in content] for n in content[0] if n in names}
