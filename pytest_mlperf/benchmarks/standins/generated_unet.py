"""The generated 3d-unet: the official architecture on random volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks.segmentation import kits19
from pytest_mlperf.benchmarks.segmentation.volumes import VolumeDataset
from pytest_mlperf.benchmarks.segmentation.windows import Shape
from pytest_mlperf.benchmarks.segmentation.workload import SegmentationWorkload
from pytest_mlperf.benchmarks.standins import generated
from pytest_mlperf.benchmarks.standins import unet_graph

DEPTHS, WIDTHS = (128, 192, 256, 320, 384), (320, 384, 448)
COUNTS = (4, 4, 4, 4, 3, 3, 3, 3, 2, 3, 3, 1, 3, 2, 1)
"""Volumes of each depth and width: 43 of 15 shapes with 32.95 million voxels on
average, as the rules give for the official cases (32,944,795); which shapes those have
is not published."""
WINDOWS_A_RUN = 4


def draw_shapes() -> list[Shape]:
    """Return the shapes of 43 volumes."""
    kinds = [(depth, width, width) for depth in DEPTHS for width in WIDTHS]
    return [s for s, count in zip(kinds, COUNTS, strict=True) for _ in range(count)]


def open_unet(
    folder: Path | None = None,
    shapes: Sequence[Shape] = (),
    widths: Sequence[int] = unet_graph.WIDTHS,
) -> SegmentationWorkload:
    """Open the official 3D U-Net on random volumes, which share their memory."""
    path = generated.ensure_graph(
        folder, "3d-unet", widths, lambda path: unet_graph.write_unet(path, widths)
    )
    shapes = shapes or draw_shapes()
    depth, height, width = np.max(shapes, axis=0).tolist()
    noise = np.random.default_rng(5).standard_normal(
        (1, depth, height, width), np.float32
    )
    images = [noise[:, :d, :h, :w] for d, h, w in shapes]
    return SegmentationWorkload(
        kind="generated",
        title="performance only: the official 3D U-Net with generated weights on"
        f" {len(shapes)} random volumes",
        digest=generated.digest_parts("3d-unet", widths, tuple(shapes)),
        model=ModelFile(path=path, inputs=("input",), outputs=("output",)),
        dataset=VolumeDataset(images, kits19.SIDE),
        reference={},
        labels=(),
        windows_a_run=WINDOWS_A_RUN,
    )
