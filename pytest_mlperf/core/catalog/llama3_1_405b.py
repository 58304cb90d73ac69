"""Llama 3.1 405B Instruct: long contexts."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "llama3.1-405b",
    aliases=("llama3-405b", "llama-3.1-405b-instruct"),
    guesses=(("llama31405b", ""),),
    checker_folders="llama3_1-405b",
    rules_in=Formula(20_000, "20000 x type", scaled=True),
    rules_out=Formula(20_000, "20000 x type", scaled=True),
)
