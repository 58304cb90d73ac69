"""Llama 3.1 8B Instruct on edge systems."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts

FACTS = BenchmarkFacts(
    "llama3.1-8b-edge", aliases=("llama3-8b-edge",), checker_folders="llama3_1-8b-edge"
)
