"""Retrieval-augmented generation, the database part."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts

FACTS = BenchmarkFacts("e2e-rag-db")
