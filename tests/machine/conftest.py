"""A machine of made-up kernel files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.support.kernel_files import Grow
from tests.support.kernel_files import write_files


@pytest.fixture
def grow(tmp_path: Path) -> Grow:
    return partial(write_files, tmp_path / "root")
