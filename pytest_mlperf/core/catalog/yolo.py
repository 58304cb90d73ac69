"""YOLO11: object detection on edge systems."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts

FACTS = BenchmarkFacts(
    "yolo",
    targets=("95", "99"),
    aliases=("yolo-v11", "yolo11"),
    logged_answers=64,
    finds_objects=True,
)
