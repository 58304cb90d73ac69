"""The generated retinanet: the official architecture on random pictures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks.detection.annotations import Annotations
from pytest_mlperf.benchmarks.detection.outputs import make_candidate_reader
from pytest_mlperf.benchmarks.detection.workload import DetectionWorkload
from pytest_mlperf.benchmarks.standins import generated
from pytest_mlperf.benchmarks.standins import retinanet_graph
from pytest_mlperf.benchmarks.standins.retinanet_graph import RetinaNetSize

PICTURES = 64
"""``retinanet.*.performance_sample_count_override`` of mlperf.conf."""
FIRST_SIDE = 32
"""Pixels of the smallest anchor; each level has twice the one before."""
RATIOS = (0.5, 1.0, 2.0)


def make_anchors(size: RetinaNetSize) -> NDArray[np.float32]:
    """Return the anchors, in the order of the graph: rows as ``boxes`` has them."""
    shapes = [
        (scale * ratio**-0.5, scale * ratio**0.5)
        for ratio in RATIOS
        for scale in (1, 2 ** (1 / 3), 2 ** (2 / 3))
    ]
    levels = []
    for level, cells in enumerate(size.cells):
        centers = (np.arange(cells) + 0.5) / cells
        grid = np.empty((cells, cells, len(shapes), 4))
        grid[..., 0] = centers[None, :, None]
        grid[..., 1] = centers[:, None, None]
        grid[..., 2:] = np.array(shapes) * (FIRST_SIDE << level) / size.side
        levels.append(grid.reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def draw_pictures(seed: int, count: int, side: int) -> Array:
    random = np.random.default_rng(seed)
    return random.integers(-128, 128, (count, side, side, 3), dtype=np.int8)


def calibrate(side: int) -> Iterator[Batch]:
    """Yield pictures that are not among the workload's."""
    for seed in range(7, 11):
        yield {"pictures": draw_pictures(seed, 2, side)}


def open_retinanet(
    folder: Path | None = None,
    size: RetinaNetSize = RetinaNetSize(),  # noqa: B008 - frozen
    count: int = PICTURES,
) -> DetectionWorkload:
    """Open RetinaNet on random pictures."""
    path = generated.ensure_graph(
        folder,
        "retinanet",
        size,
        lambda path: retinanet_graph.write_retinanet(path, size),
    )
    return DetectionWorkload(
        kind="generated",
        title="performance only: RetinaNet ResNeXt-50 with generated weights on"
        f" {count:,} random pictures of {size.side} x {size.side}",
        digest=generated.digest_parts("retinanet", size, count),
        model=ModelFile(
            path=path,
            inputs=("pictures",),
            outputs=retinanet_graph.OUTPUTS,
            calibration=partial(calibrate, size.side),
            candidates=retinanet_graph.CANDIDATES,
        ),
        dataset=ArrayDataset({"pictures": draw_pictures(6, count, size.side)}, count),
        reference={},
        annotations=Annotations({}),
        find=make_candidate_reader(make_anchors(size)),
    )
