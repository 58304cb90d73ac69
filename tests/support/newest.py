"""The results of the session that just ended."""

from __future__ import annotations

import pytest

from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.reporting import results


def newest(pytester: pytest.Pytester) -> SessionResults:
    """Return what the newest session below ``reports`` wrote."""
    return results.read_results(pytester.path / "reports" / "latest" / results.FILE)
