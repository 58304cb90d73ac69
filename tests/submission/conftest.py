"""What the tests of the writer share."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlperf.core.submission.runs import Run
from tests.support import sessions
from tests.support.submissions import BERT


@pytest.fixture
def bert(tmp_path: Path) -> list[Run]:
    return sessions.complete(tmp_path / "reports", "v6.1", BERT)
