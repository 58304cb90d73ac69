"""``results.csv``: one line a run."""

from __future__ import annotations

import csv
from pathlib import Path

from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.reporting.flat import COLUMNS
from pytest_mlperf.reporting.flat import list_rows


class CsvReporter:
    """Writes RFC 4180 with a header line; numbers in full, empty for none."""

    name = "csv"

    def write(self, session: SessionResults, folder: Path) -> Path:
        path = folder / "results.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(list_rows(session))
        return path


REPORTER = CsvReporter()
