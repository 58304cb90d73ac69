"""Shared by several test modules."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def compiled_nvml(folder: Path) -> str:
    """Make the library in a folder; skips without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler (cc) to make a library with NVML's interface")
    path = folder / "libnvml.so"
    source = Path(__file__).parents[1] / "support" / "nvml_double.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, source], check=True)
    return str(path)
