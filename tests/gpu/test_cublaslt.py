"""Every algorithm that cuBLASLt proposes for a product, against PyTorch in fp32.

Skipped without a GPU. There: ``pytest tests/gpu/test_cublaslt.py -p no:cacheprovider``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from pytest_mlperf.engines.torch.provider import TORCH

MISSING = TORCH.unavailable()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

if MISSING is None:
    import torch

    from pytest_mlperf.engines.torch.cublaslt import CublasLt

ROWS, WIDTH, DEPTH = 4608, 1024, 512


def draw(dtype: Any) -> tuple[Any, Any, Any, Any]:
    """Return x, weight, bias and what is added."""
    x, weight = (torch.randn(n, DEPTH, device="cuda") for n in (ROWS, WIDTH))
    bias, add = (
        torch.randn(WIDTH, device="cuda"),
        torch.randn(ROWS, WIDTH, device="cuda"),
    )
    return x.to(dtype), weight.to(dtype), bias.half(), add.half()


@pytest.mark.parametrize("name", ["float16", "float8_e4m3fn"])
def test_every_algorithm_computes_the_product(name: str) -> None:
    """Those that need no workspace are among them, and the fastest one is chosen."""
    dtype = getattr(torch, name)
    if name == "float8_e4m3fn" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("fp8 needs compute capability 8.9")
    torch.manual_seed(0)
    x, weight, bias, add = draw(dtype)
    one = torch.ones(4, device="cuda")
    scales = (one, one, one) if name == "float8_e4m3fn" else None
    blas = CublasLt(x.device)
    out = torch.empty(ROWS, WIDTH, dtype=torch.float16, device="cuda")
    product = partial(blas.linear, x, weight, bias, out, add=add, scales=scales)
    product()
    ((problem, algorithms),) = blas._algorithms.items()
    expected = x.float() @ weight.float().T + bias.float() + add.float()
    for choice in range(len(algorithms)):
        out.fill_(float("nan"))
        product(choice=choice)
        error = (out.float() - expected).norm() / expected.norm()

        assert float(error) < 1e-3
    blas.tune(x, weight, bias, out, add=add, scales=scales)

    assert min(one.workspace for one in algorithms) == 0
    assert blas.choices[problem] in range(len(algorithms))
