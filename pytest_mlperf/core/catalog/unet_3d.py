"""3D-UNet: segmentation of medical images."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "3d-unet",
    targets=("99", "99.9"),
    aliases=("unet3d",),
    logged_answers=64,
    guide_in=Formula(32_944_795, "mean of the 43 inputs, int8"),
    guide_out=Formula(32_944_795, "mean of the 43 outputs, one int8 label a voxel"),
    rules_in=Formula(32_944_795, "mean of the 43 inputs x type", scaled=True),
    rules_out=Formula(32_944_795, "mean of the 43 outputs x type", scaled=True),
)
