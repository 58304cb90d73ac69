"""The results of the session that just ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.reporting import results


def newest(pytester: pytest.Pytester) -> SessionResults:
    """Return what the newest session of a test's folder wrote."""
    return read_newest(pytester.path / "reports")


def read_newest(reports: Path) -> SessionResults:
    """Return the newest session's results; raises where they have no closing line."""
    return results.read_results(reports / "latest" / results.FILE)
