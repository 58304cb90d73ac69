"""Whisper large v3: speech recognition."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "whisper",
    aliases=("whisper-large-v3",),
    logged_answers=4096,
    vendor_in=Formula(960_000, "30 s x 16,000 a second x 2"),
)
