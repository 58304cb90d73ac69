"""Qwen3-VL 235B A22B: products from pictures and text."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "qwen3-vl-235b-a22b",
    aliases=("qwen3-vl", "qwen3-vl-235b-a22b-instruct", "q3vl"),
    rules_in=Formula(27_051, "27051 x type", scaled=True),
    rules_out=Formula(500, "500 x type", scaled=True),
)
