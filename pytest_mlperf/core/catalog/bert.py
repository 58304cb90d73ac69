"""BERT-Large: question answering."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "bert",
    targets=("99", "99.9"),
    aliases=("bert-large",),
    guesses=((r"bert99\.?9", "99.9"), ("bert99", "99")),
    checker_folders=".*bert-99.*",
    logged_answers=4096,
    guide_in=Formula(3_076, "(2 x 384 + 1) x 4: ids, segments and a length, int32"),
    rules_in=Formula(1_152, "3 x 384 x type: ids, mask and segments", scaled=True),
)
