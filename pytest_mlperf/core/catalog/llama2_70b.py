"""Llama 2 70B Chat: question answering."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "llama2-70b",
    targets=("99", "99.9"),
    aliases=("llama-2-70b-chat", "llama-2-70b-chat-hf"),
    rules_in=Formula(1_024, "1024 x type", scaled=True),
    rules_out=Formula(1_024, "1024 x type", scaled=True),
)
