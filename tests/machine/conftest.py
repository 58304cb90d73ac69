"""A machine of made-up kernel files, and an NVML of known answers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.support.kernel_files import Grow
from tests.support.kernel_files import write_files
from tests.support.nvml import compiled_nvml


@pytest.fixture
def grow(tmp_path: Path) -> Grow:
    return partial(write_files, tmp_path / "root")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a library with NVML's interface and known answers."""
    return compiled_nvml(tmp_path_factory.mktemp("nvml"))
