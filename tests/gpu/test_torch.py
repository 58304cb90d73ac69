"""The torch engine with samples and results on the device, on a real GPU.

Skipped without one. There: ``pytest tests/gpu/test_torch.py -p no:cacheprovider``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mlperf.core import rounds
from pytest_mlperf.core.residency.rules import Residency
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
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
