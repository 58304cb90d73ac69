"""The generated 3d-unet: true architecture and sizes, no accuracy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.benchmarks.standins import generated_unet


def test_shapes_are_43_of_15_kinds_with_the_official_mean() -> None:
    """32,944,795 voxels on average, and windows that fit."""
    shapes = generated_unet.draw_shapes()
    mean = sum(map(math.prod, shapes)) / len(shapes)

    assert (len(shapes), len(set(shapes))) == (43, 15)
    assert mean == pytest.approx(32_944_795, rel=0.001)
    assert all(side % 64 == 0 and side >= 128 for shape in shapes for side in shape)


def test_a_narrow_unet_runs_in_onnxruntime(tmp_path: Path) -> None:
    """Six levels down and up again: the scores of three classes for each voxel."""
    ort = pytest.importorskip("onnxruntime")
    workload = generated_unet.open_unet(
        tmp_path, [(128, 128, 128), (192, 128, 128)], (2,) * 6
    )
    session = ort.InferenceSession(workload.model.path)
    rows, sizes, _ = workload.run_model(
        lambda batch, _: session.run(list(workload.model.outputs), batch), [0]
    )

    assert workload.title.startswith("performance only")
    assert workload.dataset.lengths is not None
    assert workload.dataset.lengths.tolist() == [1, 2]
    assert sizes == [128**3]
    assert set(np.unique(rows)) <= {0, 1, 2}
