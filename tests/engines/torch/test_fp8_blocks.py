"""The kernels of CUDA C++ for several convolutions of a block, run on the CPU.

g++ compiles the sources with a header that plays a warpgroup with threads; on a device
``tests/gpu/test_fp8_blocks.py`` compares the same kernels with Triton's.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

for package in ("torch", "triton"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}", allow_module_level=True)

import torch  # noqa: E402

from pytest_mlperf.benchmarks.standins import graphs  # noqa: E402
from pytest_mlperf.engines.torch import cuda_source  # noqa: E402
from pytest_mlperf.engines.torch import fuse  # noqa: E402
from pytest_mlperf.engines.torch import onnx_graph  # noqa: E402
from pytest_mlperf.engines.torch.conv import block  # noqa: E402
from pytest_mlperf.engines.torch.conv import fp8  # noqa: E402
from pytest_mlperf.engines.torch.conv import joined  # noqa: E402
from pytest_mlperf.engines.torch.conv import resident  # noqa: E402
from pytest_mlperf.engines.torch.conv import tail  # noqa: E402
from pytest_mlperf.engines.torch.conv import tail_next  # noqa: E402
from pytest_mlperf.engines.torch.kernel_options import KernelChoice  # noqa: E402
from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph  # noqa: E402
from tests.support import plain_fp8  # noqa: E402

ON_CPU = Path(__file__).parents[2] / "support" / "cuda_on_cpu"
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
DRAW = torch.Generator().manual_seed(0)
CUDA = KernelChoice("blocks")


def draw_fp8(*shape: int) -> Any:
    return (torch.randn(*shape, generator=DRAW) * 40).to(torch.float8_e4m3fn)


def draw_picture(batch: int, height: int, width: int, channels: int) -> Any:
    """Return fp8 [batch, channels, height, width], not negative, channels last."""
    picture = torch.randn(batch, height, width, channels, generator=DRAW) * 40
    return picture.relu().to(torch.float8_e4m3fn).permute(0, 3, 1, 2)


def draw_bias(channels: int) -> Any:
    return torch.randn(channels, generator=DRAW).half()


def run_on_cpu(
    folder: Path, main: str, defines: Mapping[str, int], *given: Any
) -> bytes:
    """Compile a kernel for the CPU, hand it arrays and return what it wrote."""
    program = folder / "kernel"
    subprocess.run(
        [
            "g++", "-std=c++20", "-O1", "-pthread", f"-I{ON_CPU}",
            f"-I{block.SOURCE.parent}", *(f"-D{n}={v}" for n, v in defines.items()),
            "-o", str(program), str(ON_CPU / main),
        ],
        check=True,
    )  # fmt: skip
    plain = [x.permute(0, 2, 3, 1) if x.ndim == 4 else x for x in given]
    parts = [x.contiguous().view(torch.uint8).numpy().tobytes() for x in plain]
    done = subprocess.run(
        [program], input=b"".join(parts), capture_output=True, check=True
    )
    return done.stdout


def check_fp8(written: bytes, expected: Any) -> None:
    """Check numbers of [batch, channels, height, width] that a kernel wrote as rows."""
    rows = expected.permute(0, 2, 3, 1).contiguous().view(torch.uint8).flatten().int()
    steps = torch.frombuffer(bytearray(written), dtype=torch.uint8).int() - rows

    assert int(rows.min()) < 32 < 100 < int(rows.max())
    assert int(steps.abs().max()) <= 1
    assert (steps != 0).float().mean() < 1e-3


BLOCKS = {
    "shortcut": (2, 3, 20, 64, False, False),
    "shortcut of whole tiles, wide next": (1, 2, 64, 128, False, False),
    "projection": (2, 3, 20, 0, True, False),
    "projection and first product": (2, 3, 20, 64, True, True),
}


@needs_compiler
@pytest.mark.parametrize("case", BLOCKS.values(), ids=list(BLOCKS))
def test_a_block_in_one_kernel_is_its_convolutions(
    case: tuple[int, int, int, int, bool, bool], tmp_path: Path
) -> None:
    """Two programs of two warpgroups share the lines of the pictures unevenly."""
    batch, height, width, following, is_projected, has_first = case
    added = 3e-4 if is_projected else 0.02
    scales = (2e-5, 40.0, 4e-4, added, 50.0, 1e-4, 70.0, 2e-4, 60.0)
    at = dict(zip(block.SCALES, scales, strict=True)) | {"stride": 1}
    shortcut = draw_picture(batch, height, width, 64 if is_projected else 256)
    x = None if has_first else draw_picture(batch, height, width, 64)
    weights = [draw_fp8(64, 3, 3, 64), draw_fp8(256, 1, 1, 64)]
    weights.append(draw_fp8(following, 1, 1, 256) if following else None)
    weights.append(draw_fp8(256, 1, 1, 64) if is_projected else None)
    weights.append(draw_fp8(64, 1, 1, 64) if has_first else None)
    biases = [draw_bias(64), draw_bias(256)]
    biases.append(draw_bias(following) if following else None)
    biases.append(draw_bias(64) if has_first else None)
    defines = block.make_defines(
        height, width, following, projection=is_projected, first=has_first
    )
    extra = {"GROUPS": 2, "BATCH": batch, "PROGRAMS": 2}
    written = run_on_cpu(
        tmp_path,
        "block_main.cpp",
        defines | extra,
        shortcut if x is None else x,
        block.arrange_weights(*weights),
        block.arrange_biases(*biases),
        shortcut,
        torch.tensor(scales),
    )
    inputs = (
        x, shortcut, None, None, weights[0], biases[0], weights[1], biases[1],
        weights[3], weights[2], biases[2], weights[4], biases[3],
    )  # fmt: skip
    table = block.make_operators(plain_fp8.OPERATORS, CUDA)
    apart = table["ResidualBlock"](at, *inputs)
    middle = apart[0].numel()

    check_fp8(written[:middle], apart[0])
    if following:
        check_fp8(written[middle:], apart[1])


@needs_compiler
@pytest.mark.parametrize(("following", "source"), [(128, 0), (0, 0), (0, 256)])
def test_a_tail_and_what_follows_are_two_products(
    following: int, source: int, tmp_path: Path
) -> None:
    """In tiles of which the last is not full, unevenly shared by two programs."""
    stride = 2 if source else 1
    scales = (1e-4, 1e-4 if source else 0.02, 50.0, 1e-4, 40.0)
    at = dict(zip(tail_next.SCALES, scales, strict=True)) | {"stride": stride}
    x = draw_picture(1, 20, 9, 128)
    shortcut = draw_picture(1, 20 * stride, 9 * stride, source or 512)
    weight, bias = draw_fp8(512, 1, 1, 128), draw_bias(512)
    projection = draw_fp8(512, 1, 1, source) if source else None
    after = draw_fp8(following, 1, 1, 512) if following else None
    shift = draw_bias(following) if following else None
    defines = tail_next.make_defines(
        128, 512, following, source=source, stride=stride, width=9
    )
    written = run_on_cpu(
        tmp_path,
        "tail_next_main.cpp",
        defines | {"GROUPS": 1, "ROWS": 180, "PROGRAMS": 2},
        x,
        tail_next.arrange_weights(weight, after, projection),
        tail_next.arrange_biases(bias, shift),
        shortcut,
        torch.tensor(scales),
    )
    inputs = (x, shortcut, None, None, weight, bias, projection, after, shift)
    apart = tail_next.make_operators(plain_fp8.OPERATORS, CUDA)["TailNext"](at, *inputs)
    middle = apart[0].numel()

    check_fp8(written[:middle], apart[0])
    if following:
        check_fp8(written[middle:], apart[1])


@needs_compiler
def test_a_convolution_that_keeps_its_weights_is_one(tmp_path: Path) -> None:
    """Of three pictures, in tiles that hold parts of two, shared by two programs."""
    batch, height, width = 3, 7, 9
    scales = (2e-5, 50.0)
    x, weight, bias = (
        draw_picture(batch, height, width, 128),
        draw_fp8(128, 3, 3, 128),
        draw_bias(128),
    )
    defines = resident.make_defines(height, width)
    written = run_on_cpu(
        tmp_path,
        "resident_main.cpp",
        defines | {"GROUPS": 1, "BATCH": batch, "PROGRAMS": 2},
        x,
        resident.arrange_weights(weight),
        resident.arrange_biases(bias),
        torch.tensor(scales),
    )
    at = {"dequantize": scales[0], "quantize": scales[1], "stride": 1, "relu": True}
    table = resident.make_operators(plain_fp8.OPERATORS, CUDA)

    check_fp8(written, table["ResidentConv"](at, x, None, None, weight, bias))


@pytest.mark.skipif(
    cuda_source.find_missing() is not None, reason=str(cuda_source.find_missing())
)
def test_the_kernels_compile_without_a_device() -> None:
    """NVRTC takes the sources, and the shared memory is what a multiprocessor has."""
    for kernel, defines in (
        (block, block.make_defines(56, 56, 64)),
        (block, block.make_defines(56, 56, 128)),
        (block, block.make_defines(56, 56, 64, projection=True, first=True)),
        (tail_next, tail_next.make_defines(128, 512, 128)),
        (tail_next, tail_next.make_defines(128, 512)),
        (tail_next, tail_next.make_defines(128, 512, source=256, stride=2, width=28)),
        (resident, resident.make_defines(28, 28)),
    ):
        binary, log = cuda_source.compile_source(kernel.SOURCE, defines, "sm_90a")

        assert binary[:4] == b"\x7fELF"
        assert not log
        assert kernel.count_shared_bytes(defines) <= 227 << 10


def test_joined_blocks_compute_what_they_did(tmp_path: Path) -> None:
    """The rewritten graph has the same nodes' numbers, and three kinds less of them."""
    onnx = tmp_path / "resnet.onnx"
    pytest.importorskip("onnx")
    graphs.write_resnet(onnx, (2, 3), 32)
    read = onnx_graph.read_graph(onnx, ("pictures",), ("scores",))
    fused = fuse.fuse_convolutions(read)
    seen = fp8.observe_activations(fused)
    low = tail.join_tails(fp8.quantize(fused, dict.fromkeys(seen.outputs, 3.0)))
    inside = [n for n in low.nodes if n.kind in plain_fp8.OPERATORS]
    apart = OnnxGraph(inside, low.constants, ("pooled",), inside[-1].outputs)
    whole = joined.join(apart)
    table = dict(plain_fp8.OPERATORS)
    table |= joined.make_operators(table, CUDA)
    pooled = draw_picture(2, 8, 8, 64)
    answers = [
        onnx_graph.Program(graph, "cpu", torch.float32, table).run({"pooled": pooled})
        for graph in (apart, whole)
    ]
    kinds = [node.kind for node in whole.nodes]

    assert joined.has_joined(whole)
    assert not joined.has_joined(apart)
    assert kinds.count("ResidualBlock") == 2
    assert kinds.count("TailNext") == 3
    assert kinds.count("ResidentConv") == 2
    assert len(whole.nodes) == len(apart.nodes) - 6
    assert torch.equal(*(a[0].view(torch.uint8) for a in answers))
    assert answers[0][0].float().std() > 1
