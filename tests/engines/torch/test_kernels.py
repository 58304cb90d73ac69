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

import torch  # noqa: E402

from pytest_mlperf.engines.torch.conv import fp8  # noqa: E402
from pytest_mlperf.engines.torch.conv import stem  # noqa: E402
from pytest_mlperf.engines.torch.kernel_options import KernelChoice  # noqa: E402


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


def test_a_pooling_of_any_number_of_channels_is_one() -> None:
    """The kernel takes powers of two; of 192 channels PyTorch pools."""
    picture = torch.randn(2, 192, 9, 7).relu().half()
    pool = fp8.make_operators()["Fp8MaxPool"]
    found = pool({"quantize": 200.0}, picture)
    expected = torch.nn.functional.max_pool2d(picture.float() * 200, 3, 2, 1)
    expected = expected.clamp(-448, 448).to(torch.float8_e4m3fn)

    assert torch.equal(*(x.view(torch.uint8) for x in (found, expected)))
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(2, 64, 9, 8), (2, 96, 3, 3)])
def test_a_mean_of_any_picture_is_one(shape: tuple[int, ...]) -> None:
    """The kernel takes up to 64 pixels and whole 64 channels; PyTorch the others."""
    picture = (torch.randn(shape) * 40).to(torch.float8_e4m3fn)
    mean = stem.make_operators(KernelChoice("stem", "not asked for"))["Fp8Mean"]
    expected = picture.float().mean((2, 3), keepdim=True) * 0.5

    assert torch.allclose(
        mean({"dequantize": 0.5}, picture).float(), expected, 1e-3, 0.05
    )
