"""DLRM v3: recommendation from sequences."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts("dlrm-v3", rules_in=Formula(98_368, "98368 bytes"))
