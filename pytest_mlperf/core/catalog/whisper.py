"""Whisper large v3: speech recognition."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts

FACTS = BenchmarkFacts("whisper", aliases=("whisper-large-v3",), logged_answers=4096)
