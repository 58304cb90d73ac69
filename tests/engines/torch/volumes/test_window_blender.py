"""Volumes blended by PyTorch against the workload's own way on the host."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.window_blending import BlendsWindows
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks.segmentation.volumes import VolumeDataset
from pytest_mlperf.benchmarks.segmentation.workload import SegmentationWorkload
from pytest_mlperf.engines.torch.volumes.window_blender import WindowBlender

if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch", allow_module_level=True)

SHAPES = ((8, 8, 8), (12, 8, 16), (16, 12, 12))
SIDE = 8
WEIGHTS = np.random.default_rng(1).standard_normal((3, SIDE, SIDE, SIDE), np.float32)


@pytest.fixture
def workload() -> SegmentationWorkload:
    """Volumes of noise, of 1, 6 and 12 windows; four windows a run."""
    random = np.random.default_rng(0)
    images = [random.standard_normal((1, *s), np.float32) for s in SHAPES]
    return SegmentationWorkload(
        kind="generated",
        title="noise",
        digest="",
        model=ModelFile(Path("none"), ("input",), ("output",)),
        dataset=VolumeDataset(images, SIDE),
        reference={},
        labels=(),
        windows_a_run=4,
    )


def score_windows(batch: Batch, size: int) -> Sequence[Array]:
    """Score classes by where a voxel lies in its window, and by its value."""
    assert len(batch["input"]) == size
    return [batch["input"] * WEIGHTS]


def blend(
    workload: SegmentationWorkload,
    indices: Sequence[int],
    spoil: Callable[[Any], Any] = lambda scores: scores,
) -> Responses:
    """Answer by the blender on the CPU, with a model of the same scores."""
    import torch

    blender, sizes = WindowBlender(workload, "cpu"), []

    def run(fill: Callable[[Any], None], count: int) -> Any:
        held = torch.full((4, 1, SIDE, SIDE, SIDE), torch.nan)  # a recorded graph's
        fill(held)
        sizes.append(count)
        return spoil(held * torch.from_numpy(WEIGHTS))

    done = blender.answer(blender.upload(indices), indices, run)
    total = sum(len(workload.starts(index)) for index in indices)
    assert sizes == [4] * (total // 4) + [total % 4] * bool(total % 4)
    classes = [blender.fetch(one.classes).numpy() for one in done]
    return workload.answer(classes, [bool(one.finite) for one in done], indices)


@pytest.mark.parametrize("indices", [[0], [1], [2, 0], [0, 1, 2], [1, 1]])
def test_the_answers_are_the_hosts(
    workload: SegmentationWorkload, indices: list[int]
) -> None:
    """Runs go across volumes, also where one is there twice."""
    assert isinstance(workload, BlendsWindows)
    expected = workload.run_model(score_windows, indices)

    found = blend(workload, indices)

    assert found.sizes == expected.sizes
    assert np.array_equal(found.rows, expected.rows)
    assert len(np.unique(found.rows)) == 3


def test_scores_that_are_not_finite_are_refused_with_their_sample(
    workload: SegmentationWorkload,
) -> None:
    """As on the host: the message names the first sample."""

    def overflow(scores: Any) -> Any:
        scores[0, 1, 2, 3, 4] = float("inf")
        return scores

    with pytest.raises(ValueError, match=r"NaN or infinity .* sample 2"):
        blend(workload, [2], overflow)


def test_scores_of_another_shape_are_refused(workload: SegmentationWorkload) -> None:
    """Two classes where there should be three."""
    with pytest.raises(ValueError, match=r"should be \[4, 3, 8, 8, 8\]"):
        blend(workload, [2], lambda scores: scores[:, :2])
