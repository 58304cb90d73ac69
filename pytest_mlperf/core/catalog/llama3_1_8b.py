"""Llama 3.1 8B Instruct: summarization."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "llama3.1-8b",
    aliases=("llama3-8b", "llama-3.1-8b-instruct"),
    checker_folders="llama3_1-8b",
    rules_in=Formula(2_048, "2048 x type", scaled=True),
)
