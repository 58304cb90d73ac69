"""The generated retinanet: true architecture and sizes, no accuracy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.benchmarks.retinanet import RETINANET
from pytest_mlperf.benchmarks.ssd_mobilenet import SSD_MOBILENET
from pytest_mlperf.benchmarks.standins import generated_retinanet
from pytest_mlperf.benchmarks.standins.retinanet_graph import RetinaNetSize

SMALL = RetinaNetSize(
    side=96, classes=5, blocks=(1, 1, 1, 1), groups=4, width=16, candidates=9
)


def test_anchors_are_the_official_ones() -> None:
    """120,087 of them: nine in each cell of 100, 50, 25, 13 and 7 squared."""
    size = RetinaNetSize()
    anchors = generated_retinanet.make_anchors(size)

    assert size.cells == (100, 50, 25, 13, 7)
    assert anchors.shape == (120_087, 4)
    sides = 32 * 2 ** (1 / 3) * np.array([2**0.5, 0.5**0.5]) / 800
    assert anchors[1, 2:] == pytest.approx(sides)


def test_a_small_one_runs_in_onnxruntime(tmp_path: Path) -> None:
    """Candidates are the best of each level, with their own anchors' deltas."""
    import onnxruntime

    workload = generated_retinanet.open_retinanet(tmp_path, SMALL, 3)
    session = onnxruntime.InferenceSession(
        workload.model.path, providers=["CPUExecutionProvider"]
    )
    outputs = session.run(
        list(workload.model.outputs), workload.dataset.gather([0, 1, 2])
    )
    logits, anchors, labels, deltas = outputs
    firsts = np.cumsum([0, *(9 * cells**2 for cells in SMALL.cells)])
    levels = np.searchsorted(firsts, anchors, "right") - 1

    assert workload.kind == "generated"
    assert logits.shape == anchors.shape == labels.shape == (3, 45)
    assert deltas.shape == (3, 45, 4)
    assert (levels == np.repeat(range(5), 9)).all()
    assert (np.diff(logits.reshape(3, 5, 9)) <= 0).all()
    assert labels.min() >= 0
    assert labels.max() < SMALL.classes
    assert np.isfinite(logits).all()
    rows, sizes, _ = workload.respond([logits + 9, anchors, labels, deltas], [0, 1, 2])
    assert sizes is not None
    assert min(sizes) > 0
    assert (rows[..., 1:5] <= 1).all()


def test_the_others_have_none() -> None:
    """Their message lists the kinds that there are."""
    with pytest.raises(ValueError, match="'official', 'embedded', 'synthetic'"):
        SSD_MOBILENET.open_workload("generated", None)
    with pytest.raises(ValueError, match="'embedded', 'generated', 'synthetic'"):
        RETINANET.open_workload("another", None)
