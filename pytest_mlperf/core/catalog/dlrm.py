"""DLRM: recommendation, up to v3.0."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "dlrm",
    targets=("99", "99.9"),
    logged_answers=4096,
    guide_in=Formula(32_400, "270 x (16 x 1 + 26 x 4): numbers padded to 16 bytes"),
    rules_in=Formula(35_100, "270 x (13 x 2 + 26 x 4): fp16 numbers, not padded"),
)
