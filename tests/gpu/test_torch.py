"""The torch engine with samples and results on the device, on a real GPU.

Skipped without one. There: ``pytest tests/gpu/test_torch.py -p no:cacheprovider``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core import rounds
from pytest_mlperf.core.residency.rules import Residency
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.engines.torch.bert import attention
from pytest_mlperf.engines.torch.conv import stem
from pytest_mlperf.engines.torch.kernel_options import KernelChoice
from pytest_mlperf.engines.torch.provider import TORCH
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from tests.support import doubles

MISSING = TORCH.unavailable()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """One child: the model is built once."""
    runner = Runner(stall_s=60, build_s=300)
    yield runner
    runner.close()


def make_task(folder: Path, benchmark: str, target: str, residency: Residency) -> Task:
    """Return an accuracy task of an embedded workload."""
    tuning = Tuning(batch=48, streams=2, threads=1, target_qps=1000, precision="fp16")
    rule = next(
        rule
        for name in ("v6.1", "v5.1", "v4.1", "v2.0")
        if (rule := rounds.get(name).find(benchmark, target, Scenario.OFFLINE))
    )
    return doubles.make_task(
        folder,
        "torch",
        benchmark=benchmark,
        mode=Mode.ACCURACY,
        rule=rule,
        tuning=tuning,
        residency=residency,
    )


def test_pictures_and_scores_may_stay_on_the_device(
    runner: Runner, tmp_path: Path
) -> None:
    """Top-1 is the same wherever samples come from and scores stay."""
    ways = [Residency(), Residency(True), Residency(False, True), Residency(True, True)]
    done = [
        runner.run(make_task(tmp_path / str(n), "resnet50", "", way))
        for n, way in enumerate(ways)
    ]
    flags = [{k for k in one.facts.to_texts() if k.endswith("_device")} for one in done]

    assert len({tuple(one.metrics.items()) for one in done}) == 1
    assert [set(way.flags) for way in ways] == flags
    assert len({one.build for one in done}) == 1
    assert done[1].copies is not None
    assert done[1].copies.in_per_s > 1e9
    assert done[1].type_bytes == 4


def test_a_berts_tokens_may_lie_on_the_device(runner: Runner, tmp_path: Path) -> None:
    """F1 is the same; the packed layout is made there."""
    ways = [Residency(), Residency(True)]
    done = [
        runner.run(make_task(tmp_path / str(n), "bert", "99", way))
        for n, way in enumerate(ways)
    ]

    assert done[0].metrics == done[1].metrics
    assert "samples" in done[1].facts.to_texts()["samples on the device"]


def test_a_verdict_says_which_attention_ran(runner: Runner, tmp_path: Path) -> None:
    """The embedded BERT has heads of 32, which Hopper's kernel does not take."""
    import torch

    done = runner.run(make_task(tmp_path, "bert", "99", Residency()))
    capability = torch.cuda.get_device_capability()
    shape = attention.AttentionShape(32, 384, "float16", capability)

    assert done.facts.to_texts()["attention by"] == f"Triton, {shape.find_misfit()}"


def test_an_encoders_results_are_refused(runner: Runner, tmp_path: Path) -> None:
    """The rules have no such benchmark, and the engine packs them on the host."""
    with pytest.raises(
        RunFailed, match="results of an encoder, a recommender or Whisper do not stay"
    ):
        runner.run(make_task(tmp_path, "bert", "99", Residency(False, True)))


@pytest.mark.parametrize("shape", [(3, 224, 224, 64), (2, 96, 64, 32)])
def test_the_stem_of_cuda_source_is_that_of_triton(
    shape: tuple[int, int, int, int],
) -> None:
    """Convolution, ReLU and pooling in one kernel: the same fp8 numbers."""
    import torch

    batch, height, width, channels = shape
    draw = torch.Generator().manual_seed(0)
    pictures = torch.randint(
        -128, 128, (batch, height, width, 3), dtype=torch.int8, generator=draw
    )
    low, scale = stem.fold_weights(torch.randn(channels, 3, 7, 7, generator=draw))
    unit = float(scale.max())
    bias = torch.randn(channels, generator=draw).half()
    values = [x.cuda() for x in (pictures, low, (scale / unit).half(), bias)]
    one, two = (
        stem.make_operators(KernelChoice("stem", reason))["Int8StemPool"](
            {"unit": unit / 99}, *values
        )
        for reason in (None, "for comparison")
    )

    assert one.shape == (batch, channels, height // 4, width // 4)
    assert torch.equal(one.view(torch.uint8), two.view(torch.uint8))
    assert 0 < one.float().mean() < 448


HEADS, EDGES = 16, (
    1, 15, 16, 17, 48, 63, 64, 65, 81, 127, 128, 129, 192, 320, 384, 512, 576
)  # fmt: skip
"""Lengths at every edge of a tile."""


def draw_qkv(growth: float = 1.0) -> Any:
    """Return fp16 [bucket, 3 * heads * 64]; ``growth``: the largest scores last."""
    import math

    import torch

    torch.manual_seed(0)
    bucket, width = 3072, HEADS * 64
    qkv = torch.randn(bucket, 3 * width, device="cuda")
    qkv[:, width:-width] *= torch.linspace(1 / growth, 1, bucket, device="cuda")[
        :, None
    ] * math.sqrt(growth)
    return qkv.half()


def attend_both(qkv: Any, *, fp8: bool) -> tuple[Any, Any]:
    """Return what the kernel of CUDA C++ and Triton's make of sequences of ``EDGES``:
    [bucket, heads * 64], 7 in the rows behind them.
    """
    import math

    import numpy as np
    import torch

    from pytest_mlperf.engines.torch import packing
    from pytest_mlperf.engines.torch.bert import kernels

    bucket, size = len(qkv), HEADS * 64
    capacity = packing.block_capacity(bucket)
    flat = np.zeros(packing.flat_size(bucket), np.int32)
    packing.write_maps(np.array(EDGES, np.int32), flat, bucket)
    maps = torch.from_numpy(flat).cuda()
    blocks, sequences = maps[3 * bucket :], maps[packing.find_sequences(bucket) :]
    dtype = torch.float8_e4m3fn if fp8 else torch.float16
    one, two = (torch.full((bucket, size), 7.0).cuda().to(dtype) for _ in "ab")
    scale, softmax_scale = torch.full([1], 16.0, device="cuda"), math.log2(math.e) / 8
    kernel, reason = attention.choose_attention(qkv, HEADS, 576, fp8=fp8)
    if kernel is None:
        pytest.skip(reason)
    for _ in range(2):  # the second begins where the first began
        one.fill_(7)
        kernel.launch(one, scale, sequences, capacity, softmax_scale)
    kernels.attend[(HEADS, capacity)](
        qkv, two, two, scale, scale, blocks, softmax_scale, H=size, D=64, BLOCK=64,
        M=packing.BLOCK_QUERIES, N=32, FP8=fp8, QKV_FP8=False, num_warps=4,
    )  # fmt: skip
    return one, two


@pytest.mark.parametrize("fp8", [True, False])
@pytest.mark.parametrize("growth", [1.0, 40.0])
def test_attention_of_cuda_source_is_as_exact_as_tritons(
    fp8: bool, growth: float
) -> None:
    """Both are compared with PyTorch's in double precision."""
    import torch

    total, size = sum(EDGES), HEADS * 64
    qkv = draw_qkv(growth)
    one, two = attend_both(qkv, fp8=fp8)
    rows = qkv[:total].double().view(total, 3, HEADS, 64).split(EDGES)
    exact = torch.cat(
        [
            torch.nn.functional.scaled_dot_product_attention(
                *part.permute(1, 2, 0, 3)
            ).transpose(0, 1)
            for part in rows
        ]
    ).reshape(total, size)
    exact = (exact * (16 if fp8 else 1)).clamp(-448, 448)
    mine, tritons = ((x[:total].double() - exact).abs() for x in (one, two))

    assert float(mine.max()) <= 1.1 * float(tritons.max())
    assert float(mine.mean()) <= 1.02 * float(tritons.mean())
    assert bool((one[total:].float() == 7).all())


@pytest.mark.parametrize("fp8", [True, False])
@pytest.mark.parametrize("number", [float("inf"), float("nan"), 65504.0])
def test_what_one_sequence_has_changes_no_other(fp8: bool, number: float) -> None:
    """Every other one has a number in all its queries, keys and values that no answer
    survives: those between keep their bits.
    """
    import torch

    plain = draw_qkv()
    clean = attend_both(plain, fp8=fp8)
    owners = torch.repeat_interleave(torch.arange(len(EDGES)), torch.tensor(EDGES))
    for odd in (0, 1):
        spoiled = (owners % 2 == odd).nonzero().flatten().cuda()
        others = (owners % 2 != odd).nonzero().flatten().cuda()
        qkv = plain.clone()
        qkv[spoiled] = number
        for before, after in zip(clean, attend_both(qkv, fp8=fp8), strict=True):
            rows = (x[others].view(torch.uint8) for x in (before, after))

            assert torch.equal(*rows)


@pytest.mark.parametrize("depth", [1024, 4096])
@pytest.mark.parametrize("rows", [128, 304, 4224, 16896])
def test_a_product_with_its_layernorm_is_as_exact_as_apart(
    rows: int, depth: int
) -> None:
    """In fp64's eyes; rows behind the last are left alone, and a tile may be part."""
    import torch

    from pytest_mlperf.engines.torch.bert import kernels
    from pytest_mlperf.engines.torch.bert import product_norm
    from pytest_mlperf.engines.torch.cublaslt import CublasLt

    draw = torch.Generator(device="cuda").manual_seed(rows + depth)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device="cuda", generator=draw)

    fp8, eps, more = torch.float8_e4m3fn, 1e-12, rows + 130
    x = (normal(more, depth) * 40).to(fp8)
    weight = (normal(1024, depth) * 80).to(fp8)
    bias, gamma, beta = normal(1024).half(), 1 + normal(1024) / 5, normal(1024)
    residual = (normal(more, 1024) * (1 + 3 * normal(1024).abs()) + 0.3).half()
    scales = [
        torch.full([4], f, device="cuda") for f in (0.01 / depth**0.5, 0.02, 20.0)
    ]
    shape = product_norm.NormShape(
        1024, depth, True, "float16", torch.cuda.get_device_capability()
    )
    kernel, _ = product_norm.choose_joined_norms(
        shape, {"output": x}, {"0.output.weight": weight}
    )
    if kernel is None:
        pytest.skip("needs a Hopper GPU and cuda-bindings")
    joined: list[tuple[torch.Tensor, torch.Tensor]] = []
    apart: list[tuple[torch.Tensor, torch.Tensor]] = []
    for out in (joined, joined, apart):
        hidden, low = residual.clone(), torch.full([more, 1024], 7.0).cuda().to(fp8)
        part = hidden[:rows]
        if out is joined:
            kernel.launch(
                0, "output", scales[:2], bias, (gamma, beta), part, low, scales[2], eps
            )
        else:
            total = torch.empty_like(part)
            CublasLt(part.device).linear(
                x[:rows], weight, bias, total, add=part, scales=(*scales[:2], None)
            )
            kernels.normalize[(rows,)](
                total, gamma, beta, part, low, scales[2], rows, eps,
                H=1024, BLOCK=1024, FP8=True, num_warps=4,
            )  # fmt: skip
        out.append((hidden, low))
    exact = x[:rows].double() @ weight.double().T * float(scales[0][0] * scales[1][0])
    exact = torch.nn.functional.layer_norm(
        exact + bias.double() + residual[:rows].double(),
        [1024], gamma.double(), beta.double(), eps,
    )  # fmt: skip
    errors = [
        [(hidden[:rows] - exact).abs(), (low[:rows].double() / 20 - exact).abs()]
        for (hidden, low) in (joined[1], apart[0])
    ]

    for mine, other in zip(*errors, strict=True):
        assert float(mine.mean()) <= 1.01 * float(other.mean())
        assert float(mine.max()) <= 1.1 * float(other.max())
    assert torch.equal(joined[0][0], joined[1][0])
    assert torch.equal(*(low.view(torch.uint8) for _, low in joined))
    assert torch.equal(joined[0][0][rows:], residual[rows:])
    assert bool((joined[0][1][rows:].float() == 7).all())


def test_two_streams_launch_products_with_layernorms_at_once() -> None:
    """Programs wait for each other on the device, but never for the other stream."""
    import torch

    from pytest_mlperf.engines.torch.bert import product_norm

    draw = torch.Generator(device="cuda").manual_seed(5)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device="cuda", generator=draw)

    fp8, sizes = torch.float8_e4m3fn, (16896, 512, 8192, 1024, 128)
    inputs = {
        "attention_output": (normal(16896, 1024) * 40).to(fp8),
        "output": (normal(16896, 4096) * 40).to(fp8),
    }
    weights = {
        f"0.{name}.weight": (normal(1024, x.shape[1]) * 80).to(fp8)
        for name, x in inputs.items()
    }
    bias, start = normal(1024).half(), normal(16896, 1024).half()
    gamma, beta = 1 + normal(1024) / 5, normal(1024)
    scales = [torch.full([4], f, device="cuda") for f in (0.0002, 0.02, 20.0)]
    capability = torch.cuda.get_device_capability()
    shape = product_norm.NormShape(1024, 4096, True, "float16", capability)
    streams = [torch.cuda.Stream() for _ in range(2)]
    chosen = [
        product_norm.choose_joined_norms(shape, inputs, weights, streams=2)[0]
        for _ in streams
    ]
    kernels = [kernel for kernel in chosen if kernel is not None]
    outs = [(start.clone(), torch.zeros_like(start).to(fp8)) for _ in range(3)]

    def run(kernel: product_norm.JoinedNorms, out: Any) -> None:
        for size in sizes:
            for name in inputs:
                kernel.launch(
                    0, name, scales[:2], bias, (gamma, beta), out[0][:size],
                    out[1][:size], scales[2], 1e-12,
                )  # fmt: skip

    if not kernels:
        pytest.skip("needs a Hopper GPU and cuda-bindings")
    for _ in range(30):
        run(kernels[0], outs[2])
    torch.cuda.synchronize()
    for _ in range(30):
        for stream, kernel, out in zip(streams, kernels, outs, strict=False):
            with torch.cuda.stream(stream):
                run(kernel, out)
    torch.cuda.synchronize()

    for hidden, low in outs[:2]:
        assert torch.equal(hidden, outs[2][0])
        assert torch.equal(low.view(torch.uint8), outs[2][1].view(torch.uint8))
