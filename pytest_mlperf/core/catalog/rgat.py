"""R-GAT: node classification in a graph."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts

FACTS = BenchmarkFacts("rgat", logged_answers=4096)
