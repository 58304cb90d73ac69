"""RetinaNet: object detection."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "retinanet",
    aliases=("retinanet-resnext50", "retinanet-800x800"),
    checker_folders="ssd-resnet34",
    logged_answers=256,
    finds_objects=True,
    rules_in=Formula(1_920_000, "3 x 800 x 800 x type", scaled=True),
)
