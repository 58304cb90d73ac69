"""``virtualclient.csv``: metrics as VirtualClient names them, over a session's repeats.

All three generations of names; ``pytest-mlperf report virtualclient`` has more forms.
"""

from __future__ import annotations

from pathlib import Path

from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.whole_file import write_whole
from pytest_mlperf.reporting.virtualclient.session import list_results
from pytest_mlperf.reporting.virtualclient.table import format_csv


class VirtualClientReporter:
    """Writes the table of VirtualClient's page."""

    name = "virtualclient"

    def write(self, session: SessionResults, folder: Path) -> Path | None:
        """Return the path; None where no run was judged."""
        metrics = [m for run in list_results(session) for m in run.list_metrics()]
        if not metrics:
            return None
        path = folder / "virtualclient.csv"
        write_whole(path, format_csv(metrics))
        return path


REPORTER = VirtualClientReporter()
