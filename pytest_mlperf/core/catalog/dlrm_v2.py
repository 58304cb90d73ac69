"""DLRM-DCNv2: recommendation."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "dlrm-v2",
    targets=("99", "99.9"),
    aliases=("dlrm-dcn-v2", "dcnv2"),
    logged_answers=4096,
    rules_in=Formula(35_100, "270 x (13 x 2 + 26 x 4): fp16 numbers, not padded"),
)
