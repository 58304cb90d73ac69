"""Triton kernels against PyTorch in fp32, in Triton's interpreter on the CPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

for package in ("torch", "triton"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}", allow_module_level=True)


def test_kernels_compute_what_pytorch_computes() -> None:
    """Odd sides, strides, heads of 24, tiles that are not full: errors are fp16's."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.interpreted_kernels"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout)

    assert len(errors) == 25
    assert {name: error for name, error in errors.items() if not error < 1e-3} == {}
