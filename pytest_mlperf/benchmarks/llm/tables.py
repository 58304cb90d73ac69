"""Tables in the formats of the official datasets: pickle, parquet, JSON.

Parquet and JSON are data. A pickle is a program: it is read by ``frame_process``, which
calls nothing that the pickle names. No file is trusted for its name or its place.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.benchmarks.files import LLM_EXTRA
from pytest_mlperf.benchmarks.files import require_package
from pytest_mlperf.benchmarks.llm.frame_process import PickleRefused
from pytest_mlperf.benchmarks.llm.frame_process import read_pickle
from pytest_mlperf.core.regular_file import open_regular

Table = Mapping[str, Sequence[Any]]
"""Column -> its values, all of one length."""


def read_table(
    path: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Table:
    """Read columns of a table: .pkl, .pkl.gz, .parquet, .json or .jsonl.

    Raises ``RequirementMissing`` for an absent package and ``ValueError`` for a file
    that is no such table or lacks a column.
    """
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    wanted = (*columns, *optional)
    try:
        if kind in ("pkl", "pickle"):
            names, table = _pickle(path, wanted)
        else:
            table = _parquet(path) if kind == "parquet" else _json(path)
            names = list(table)
    except RequirementMissing:
        raise
    except PickleRefused as error:
        raise ValueError(
            f"{path} is not read: {error}. A pickle can hold a program, so only a plain"
            " frame of lists, texts and numbers is read. Take the dataset from its"
            " official source and compare its checksum, or save a table of your own as"
            " .parquet."
        ) from None
    except Exception as error:  # whatever a damaged file makes a package raise
        raise ValueError(
            f"{path} cannot be read as a {kind} table: {type(error).__name__}:"
            f" {str(error)[:200]}; download it again."
        ) from error
    absent = [name for name in columns if name not in table]
    if absent:
        raise ValueError(
            f"{path} has the columns {', '.join(names) or 'none'}, but should also"
            f" have {', '.join(absent)}. Take the dataset as its official source"
            " offers it."
        )
    present = [*columns, *(name for name in optional if name in table)]
    return {name: table[name] for name in present}


def _pickle(path: Path, columns: Sequence[str]) -> tuple[list[str], Table]:
    with open_regular(path) as file:
        return read_pickle(file, columns)


def _parquet(path: Path) -> Table:
    require_package("pyarrow", f"{path.name} cannot be read", LLM_EXTRA)
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _json(path: Path) -> Table:
    """Read a list of records, one record a line, or columns of a frame."""
    with open_regular(path) as raw:
        file = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
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
