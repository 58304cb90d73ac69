"""``results.parquet``: one row a run, typed columns; needs pyarrow."""

from __future__ import annotations

from pathlib import Path

from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.reporting.flat import COLUMNS
from pytest_mlperf.reporting.flat import list_rows


class ParquetReporter:
    """Writes the columns of ``results.csv``, and the header as the file's metadata."""

    name = "parquet"

    def write(self, session: SessionResults, folder: Path) -> Path:
        """Return the path; ``ValueError`` without pyarrow."""
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            text = "needs the package pyarrow: pip install pyarrow"
            raise ValueError(text) from None
        types = {
            str: pyarrow.string(),
            float: pyarrow.float64(),
            int: pyarrow.int64(),
            bool: pyarrow.bool_(),
        }
        schema = pyarrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
        table = pyarrow.Table.from_pylist(list(list_rows(session)), schema)
        path = folder / "results.parquet"
        pyarrow.parquet.write_table(table, path)
        return path


REPORTER = ParquetReporter()
