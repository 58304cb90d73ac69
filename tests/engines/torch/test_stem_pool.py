"""The kernel of CUDA C++ for a first convolution and its pooling, run on the CPU.

g++ compiles the source with a header that plays a warp with threads; on a device
``tests/gpu/test_torch.py`` compares the same kernel with Triton's two.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

for package in ("torch", "triton"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}", allow_module_level=True)

import torch  # noqa: E402

from pytest_mlperf.engines.torch import cuda_source  # noqa: E402
from pytest_mlperf.engines.torch.conv import stem_pool  # noqa: E402
from pytest_mlperf.engines.torch.conv.stem import fold_weights  # noqa: E402

ON_CPU = Path(__file__).parents[2] / "support" / "cuda_on_cpu"
BATCH, HEIGHT, WIDTH, OUT, STRIP = 2, 20, 32, 32, 3


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_the_kernel_convolves_and_pools(tmp_path: Path) -> None:
    """Two strips, the second not full, of two pictures: fp8 of PyTorch's in fp64."""
    program = tmp_path / "stem_pool"
    defines = stem_pool.make_defines(HEIGHT, WIDTH, OUT) | {"STRIP": STRIP}
    subprocess.run(
        [
            "g++", "-std=c++20", "-O1", "-pthread", f"-I{ON_CPU}",
            f"-I{stem_pool.SOURCE.parent}", f"-DBATCH={BATCH}",
            *(f"-D{name}={value}" for name, value in defines.items()),
            "-o", str(program), str(ON_CPU / "stem_pool_main.cpp"),
        ],
        check=True,
    )  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    shape = (BATCH, HEIGHT, WIDTH, 3)
    pictures = torch.randint(-128, 128, shape, dtype=torch.int8, generator=draw)
    weight = torch.randn(OUT, 3, 7, 7, generator=draw)
    low, scale = fold_weights(weight)
    unit, factor = float(scale.max()), 0.02
    scales = (scale / unit).half()
    bias = torch.randn(OUT, generator=draw).half()
    parts = (pictures, low, scales, bias, torch.tensor([unit * factor]))
    given = b"".join(part.numpy().tobytes() for part in parts)
    done = subprocess.run([program], input=given, capture_output=True, check=True)
    shape = (BATCH, HEIGHT // 4, WIDTH // 4, OUT)
    kernels = torch.frombuffer(bytearray(done.stdout), dtype=torch.uint8).reshape(shape)

    exact = (weight / scale[:, None, None, None]).round().double()
    x = torch.conv2d(pictures.permute(0, 3, 1, 2).double(), exact, None, 2, 3)
    x = x * (scales.double() * unit * factor)[:, None, None] + bias[:, None, None]
    x = torch.max_pool2d(x.relu(), 3, 2, 1).permute(0, 2, 3, 1)
    steps = kernels.int() - x.float().to(torch.float8_e4m3fn).view(torch.uint8).int()

    assert int(kernels.min()) < 64 < int(kernels.max())
    assert int(steps.abs().max()) <= 1
    assert (steps != 0).float().mean() < 1e-3


@pytest.mark.skipif(
    cuda_source.find_missing() is not None, reason=str(cuda_source.find_missing())
)
def test_the_kernel_compiles_without_a_device() -> None:
    """NVRTC takes the source."""
    defines = stem_pool.make_defines(224, 224, 64)
    try:
        binary, _ = cuda_source.compile_source(stem_pool.SOURCE, defines, "sm_90")
    except RuntimeError as error:  # cuda-bindings without the library itself
        pytest.skip(str(error))

    assert binary[:4] == b"\x7fELF"
