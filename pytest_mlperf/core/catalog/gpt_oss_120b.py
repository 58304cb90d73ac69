"""gpt-oss 120B: reasoning."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import AccuracyAudit
from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula
from pytest_mlperf.core.catalog.facts import LengthAudit

FACTS = BenchmarkFacts(
    "gpt-oss-120b",
    aliases=("gpt-oss",),
    # d8230cdd of July 2026, after v6.0's results.
    accuracy_audit=AccuracyAudit(990, 60.698, unique_since="v6.1"),
    length_audit=LengthAudit(6396, 1150.38, 1406.02, unique_since="v6.1"),
    rules_in=Formula(15_330, "15330 x type", scaled=True),
    rules_out=Formula(10_000, "10000 x type (performance)", scaled=True),
)
