"""DeepSeek-R1: reasoning."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "deepseek-r1",
    aliases=("deepseek", "dsr1"),
    rules_in=Formula(3_136, "3136 x type", scaled=True),
    rules_out=Formula(20_000, "20000 x type", scaled=True),
)
