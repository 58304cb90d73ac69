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
        stem.make_operators(is_cuda=way)["Int8StemPool"]({"unit": unit / 99}, *values)
        for way in (True, False)
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
