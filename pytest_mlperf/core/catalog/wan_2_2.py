"""Wan 2.2 T2V A14B: videos from text."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Examples
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "wan-2.2-t2v-a14b",
    aliases=("wan-2.2", "wan-2.2-t2v"),
    logged_answers=50,
    same_sample_queries={"Offline": 20, "SingleStream": 20},
    # The appendix prints 224,870,400; the product of its own factors is this.
    rules_out=Formula(81 * 720 * 1280 * 3, "81 x 720 x 1280 x 3 x type", scaled=True),
    examples=Examples(
        "videos",
        "mp4",
        {
            "v6.0": "130 106 84 59 12 31 86 122 233 96",
            "v6.1": "130 106 84 59 12 123 43 22 238 32",
        },
    ),
)
