"""Qwen3.6 27B: agents on edge systems."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts

FACTS = BenchmarkFacts("qwen3.6-27b", aliases=("qwen3.6", "edge-agentic"))
