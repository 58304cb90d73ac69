"""Mixtral 8x7B Instruct: questions, mathematics and code."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "mixtral-8x7b",
    aliases=("mixtral-8x7b-instruct-v0.1",),
    rules_in=Formula(2_048, "2048 x type", scaled=True),
    rules_out=Formula(2_048, "2048 x type", scaled=True),
)
