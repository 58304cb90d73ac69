"""Retrieval-augmented generation, the answering part."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import LengthAudit

FACTS = BenchmarkFacts(
    "e2e-rag-qna",
    aliases=("e2e-rag-q&a",),
    length_audit=LengthAudit(824, 246.43, 301.19),
)
