"""GPT-J 6B: summarization."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts

FACTS = BenchmarkFacts(
    "gptj", targets=("99", "99.9"), aliases=("gpt-j-6b",), logged_answers=4096
)
