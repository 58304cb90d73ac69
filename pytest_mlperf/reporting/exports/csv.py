"""``results.csv``: one line a run."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.whole_file import write_whole
from pytest_mlperf.reporting.flat import COLUMNS
from pytest_mlperf.reporting.flat import list_rows


class CsvReporter:
    """Writes RFC 4180 with a header line; numbers in full, empty for none."""

    name = "csv"

    def write(self, session: SessionResults, folder: Path) -> Path:
        path = folder / "results.csv"
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(list_rows(session))
        write_whole(path, text.getvalue())
        return path


REPORTER = CsvReporter()
