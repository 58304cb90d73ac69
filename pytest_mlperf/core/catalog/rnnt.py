"""RNN-T: speech recognition."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "rnnt", logged_answers=4096, guide_in=Formula(480_000, "15 s x 16,000 a second x 2")
)
