"""PointPainting: object detection in 3D."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts

FACTS = BenchmarkFacts(
    "pointpainting", aliases=("3d-object-detection",), logged_answers=256
)
